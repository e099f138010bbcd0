// SPDX-License-Identifier: MIT
#include "bpf/variables.hpp"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <stdexcept>

#include "base/error.hpp"

namespace netkit_bpf {

namespace {

template <typename T>
bool store_whole(uint8_t* to, Bytes value) {  // NOLINT(readability-non-const-parameter): written through an atomic_ref
  if (value.size() != sizeof(T) || reinterpret_cast<uintptr_t>(to) % sizeof(T) != 0) return false;
  T number{};
  std::memcpy(&number, value.data(), sizeof(T));
  std::atomic_ref(*reinterpret_cast<T*>(to)).store(number, std::memory_order_release);
  return true;
}

template <typename T>
bool load_whole(const uint8_t* from, std::vector<uint8_t>& value) {
  if (value.size() != sizeof(T) || reinterpret_cast<uintptr_t>(from) % sizeof(T) != 0) return false;
  const T number = std::atomic_ref(*const_cast<T*>(reinterpret_cast<const T*>(from))).load(std::memory_order_acquire);
  std::memcpy(value.data(), &number, sizeof(T));
  return true;
}

}  // namespace

void Variables::Unmap::operator()(uint8_t* start) const noexcept { ::munmap(start, length); }

Variables::Variables(const bpf_object* object) {
  const btf* types = bpf_object__btf(object);
  if (types == nullptr) return;
  bpf_map* map = nullptr;
  bpf_object__for_each_map(map, object) {
    // The type of such a map's value is its section's description.
    const btf_type* section =
        bpf_map__is_internal(map) ? btf__type_by_id(types, bpf_map__btf_value_type_id(map)) : nullptr;
    size_t size = 0;
    auto* memory = static_cast<uint8_t*>(bpf_map__initial_value(map, &size));
    if (section == nullptr || !btf_is_datasec(section) || memory == nullptr) continue;
    const std::string name = btf__str_by_offset(types, section->name_off);
    if (name == ".kconfig") continue;  // libbpf's to fill
    const bool is_constant = (bpf_map__map_flags(map) & BPF_F_RDONLY_PROG) != 0;
    sections_.push_back({name, map, size, is_constant, memory, nullptr});
    for (uint16_t i = 0; i < btf_vlen(section); ++i) {
      const btf_var_secinfo& entry = btf_var_secinfos(section)[i];
      const btf_type* variable = btf__type_by_id(types, entry.type);
      if (!btf_is_var(variable) || !fits(entry.offset, entry.size, size)) continue;
      all_.push_back({.name = btf__str_by_offset(types, variable->name_off),
                      .section = name,
                      .type = variable->type,
                      .offset = entry.offset,
                      .size = entry.size,
                      .is_constant = is_constant});
    }
  }
}

size_t Variables::index(const std::string& name) const {
  const auto found = std::ranges::find(all_, name, &Variable::name);
  if (found == all_.end()) throw Error(ENOENT, "find variable '" + name + "'");
  return static_cast<size_t>(found - all_.begin());
}

const Variables::Section& Variables::find(const std::string& name) const {
  const auto found = std::ranges::find(sections_, name, &Section::name);
  if (found == sections_.end()) throw Error(ENOENT, "find section '" + name + "'");
  return *found;
}

std::vector<uint8_t> Variables::read(size_t index) const {
  const Variable& variable = all_.at(index);
  return read(find(variable.section), variable.offset, variable.size);
}

void Variables::write(size_t index, Bytes value) {
  const Variable& variable = all_.at(index);
  if (value.size() != variable.size)
    throw std::invalid_argument("variable '" + variable.name + "' takes " + std::to_string(variable.size) + " bytes");
  if (loaded_ && variable.is_constant)
    throw Error(EPERM, "write variable '" + variable.name + "'", "constants are fixed once the object is loaded");
  write(find(variable.section), variable.offset, value);
}

std::vector<uint8_t> Variables::section(const std::string& name) const {
  const Section& found = find(name);
  return read(found, 0, found.size);
}

void Variables::set_section(const std::string& name, Bytes value) {
  const Section& found = find(name);
  if (value.size() != found.size) throw std::invalid_argument("section '" + name + "' is of another size");
  write(found, 0, value);
}

void Variables::map_memory() {
  const auto page = static_cast<size_t>(::getpagesize());
  for (Section& section : sections_) {
    section.memory = nullptr;
    const int fd = bpf_map__fd(section.map);
    // A section without a global variable cannot be mapped.
    if ((bpf_map__map_flags(section.map) & BPF_F_MMAPABLE) != 0) {
      const size_t length = (section.size + page - 1) / page * page;
      void* start =
          ::mmap(nullptr, length, section.is_constant ? PROT_READ : PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
      if (start == MAP_FAILED) throw Error(errno, "map section '" + section.name + "'");
      section.mapping = {static_cast<uint8_t*>(start), Unmap{length}};
      section.memory = section.mapping.get();
    }
  }
  loaded_ = true;
}

std::vector<uint8_t> Variables::read(const Section& section, size_t offset, size_t size) {
  if (section.memory == nullptr) {
    std::vector<uint8_t> all(section.size);
    const uint32_t key = 0;
    if (bpf_map_lookup_elem(bpf_map__fd(section.map), &key, all.data()) != 0)
      throw Error(errno, "read section '" + section.name + "'");
    return {all.begin() + static_cast<ptrdiff_t>(offset), all.begin() + static_cast<ptrdiff_t>(offset + size)};
  }
  std::vector<uint8_t> value(size);
  const uint8_t* from = section.memory + offset;
  if (!load_whole<uint64_t>(from, value) && !load_whole<uint32_t>(from, value) && !load_whole<uint16_t>(from, value))
    std::memcpy(value.data(), from, size);
  return value;
}

void Variables::write(const Section& section, size_t offset, Bytes value) {
  if (section.memory == nullptr) {
    std::vector<uint8_t> all = read(section, 0, section.size);
    std::ranges::copy(value, all.begin() + static_cast<ptrdiff_t>(offset));
    const uint32_t key = 0;
    if (bpf_map_update_elem(bpf_map__fd(section.map), &key, all.data(), BPF_ANY) != 0)
      throw Error(errno, "write section '" + section.name + "'");
    return;
  }
  uint8_t* to = section.memory + offset;
  if (!store_whole<uint64_t>(to, value) && !store_whole<uint32_t>(to, value) && !store_whole<uint16_t>(to, value))
    std::memcpy(to, value.data(), value.size());
}

}  // namespace netkit_bpf
