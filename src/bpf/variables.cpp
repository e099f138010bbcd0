// SPDX-License-Identifier: MIT
#include "bpf/variables.hpp"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <optional>
#include <stdexcept>
#include <string_view>
#include <utility>

#include "base/error.hpp"

namespace netkit_bpf {

namespace {

// Copies into or out of memory that a program uses, number by number; aligned numbers are copied as a whole.
template <typename T>
bool copy_number(uint8_t* shared, uint8_t* own, size_t size, bool store) {
  if (size < sizeof(T) || reinterpret_cast<uintptr_t>(shared) % sizeof(T) != 0) return false;
  const std::atomic_ref number(*reinterpret_cast<T*>(shared));
  T value{};
  if (store) {
    std::memcpy(&value, own, sizeof(T));
    number.store(value, std::memory_order_release);
  } else {
    value = number.load(std::memory_order_acquire);
    std::memcpy(own, &value, sizeof(T));
  }
  return true;
}

void copy_numbers(uint8_t* shared, uint8_t* own, size_t size, bool store) {
  for (size_t at = 0; at < size;) {
    const size_t left = size - at;
    if (copy_number<uint64_t>(shared + at, own + at, left, store))
      at += sizeof(uint64_t);
    else if (copy_number<uint32_t>(shared + at, own + at, left, store))
      at += sizeof(uint32_t);
    else if (copy_number<uint16_t>(shared + at, own + at, left, store))
      at += sizeof(uint16_t);
    else if (copy_number<uint8_t>(shared + at, own + at, left, store))
      at += sizeof(uint8_t);
  }
}

// Whether the type holds objects of the kernel: locks, timers, list heads, pointers to kernel objects. The kernel
// refuses to mmap such a map (bpf_map_mmap(), kernel/bpf/syscall.c).
bool has_special_fields(const btf* types, uint32_t id, int depth = 0) {
  constexpr std::array special{"bpf_spin_lock", "bpf_res_spin_lock", "bpf_timer",   "bpf_wq",      "bpf_task_work",
                               "bpf_list_head", "bpf_list_node",     "bpf_rb_root", "bpf_rb_node", "bpf_refcount"};
  constexpr std::array<std::string_view, 4> tags{"kptr", "kptr_untrusted", "percpu_kptr", "uptr"};
  constexpr int deepest = 32;
  const btf_type* type = btf__type_by_id(types, id);
  if (type == nullptr || depth > deepest) return false;
  const char* name = btf__str_by_offset(types, type->name_off);
  switch (btf_kind(type)) {
    case BTF_KIND_STRUCT:
    case BTF_KIND_UNION: {
      if (std::ranges::find(special, std::string_view(name)) != special.end()) return true;
      for (uint16_t i = 0; i < btf_vlen(type); ++i)
        if (has_special_fields(types, btf_members(type)[i].type, depth + 1)) return true;
      return false;
    }
    case BTF_KIND_ARRAY:
      return has_special_fields(types, btf_array(type)->type, depth + 1);
    case BTF_KIND_PTR: {
      const btf_type* target = btf__type_by_id(types, type->type);
      return target != nullptr && btf_is_type_tag(target) &&
             std::ranges::find(tags, btf__str_by_offset(types, target->name_off)) != tags.end();
    }
    case BTF_KIND_TYPEDEF:
    case BTF_KIND_CONST:
    case BTF_KIND_VOLATILE:
    case BTF_KIND_VAR:
      return has_special_fields(types, type->type, depth + 1);
    default:
      return false;
  }
}

// The value type of a map that is a section describes it; null for other maps, and for sections that BTF does not name.
const btf_type* described_section(const btf* types, const bpf_map* map) {
  const uint32_t id = bpf_map__btf_value_type_id(map);
  const btf_type* type = bpf_map__is_internal(map) && id != 0 ? btf__type_by_id(types, id) : nullptr;
  return type != nullptr && btf_is_datasec(type) ? type : nullptr;
}

// Whether a map is a section. libbpf calls it by the object's name and the section's, or by the latter alone.
bool is_section(const btf* types, const bpf_map* map, const std::string& name) {
  if (!bpf_map__is_internal(map)) return false;
  if (const btf_type* section = described_section(types, map); section != nullptr)
    return name == btf__str_by_offset(types, section->name_off);
  const std::string_view called = bpf_map__name(map);
  return called == name || (called.ends_with(name) && called.find('.') == called.size() - name.size());
}

// Where a variable is that BTF puts at an offset of a section; nothing if its symbols cannot tell.
std::optional<DataSymbol> place_of(const std::vector<DataSymbol>& symbols, const std::string& name,
                                   const std::string& section, uint64_t offset) {
  std::optional<DataSymbol> elsewhere;
  for (const DataSymbol& symbol : symbols) {
    if (symbol.name != name) continue;
    if (symbol.section == section) return DataSymbol{name, section, offset};
    if (elsewhere) return std::nullopt;
    elsewhere = symbol;
  }
  return elsewhere ? elsewhere : DataSymbol{name, section, offset};  // that of a function's has another name there
}

// libbpf makes a section mappable only if a variable in it is global. In a section with only static variables, a value
// could be written only with the whole section, which would undo what the program counts meanwhile.
void make_mappable(const btf* types, bpf_map* map) {
  const btf_type* section = described_section(types, map);
  for (uint16_t i = 0; section != nullptr && i < btf_vlen(section); ++i)
    if (has_special_fields(types, btf_var_secinfos(section)[i].type)) return;
  bpf_map__set_map_flags(map, bpf_map__map_flags(map) | BPF_F_MMAPABLE);  // cannot fail before the map is made
}

}  // namespace

Variables::Variables(const bpf_object* object, const std::vector<DataSymbol>& symbols) {
  const btf* types = bpf_object__btf(object);
  if (types == nullptr) return;
  bpf_map* map = nullptr;
  bpf_object__for_each_map(map, object) {
    const btf_type* section = described_section(types, map);
    size_t size = 0;
    if (section == nullptr || bpf_map__initial_value(map, &size) == nullptr) continue;
    const std::string section_name = btf__str_by_offset(types, section->name_off);
    if (section_name == ".kconfig") continue;  // filled by libbpf
    add_section(types, map, section_name, size);
    for (uint16_t i = 0; i < btf_vlen(section); ++i) {
      const btf_var_secinfo& entry = btf_var_secinfos(section)[i];
      const btf_type* variable = btf__type_by_id(types, entry.type);
      if (!btf_is_var(variable)) continue;
      const std::string name = btf__str_by_offset(types, variable->name_off);
      if (const auto place = place_of(symbols, name, section_name, entry.offset))
        add(object, {.name = name,
                     .section = place->section,
                     .type = variable->type,
                     .offset = static_cast<uint32_t>(place->offset),
                     .size = entry.size});
    }
  }
}

void Variables::add_section(const btf* types, bpf_map* map, std::string name, size_t size) {
  if (std::ranges::find(sections_, name, &Section::name) != sections_.end()) return;
  make_mappable(types, map);
  sections_.push_back({std::move(name), map, size, (bpf_map__map_flags(map) & BPF_F_RDONLY_PROG) != 0, {}});
}

void Variables::add(const bpf_object* object, Variable variable) {
  bpf_map* map = nullptr;
  bpf_object__for_each_map(map, object) {
    size_t size = 0;
    if (!is_section(bpf_object__btf(object), map, variable.section) || bpf_map__initial_value(map, &size) == nullptr ||
        !fits(variable.offset, variable.size, size))
      continue;
    add_section(bpf_object__btf(object), map, variable.section, size);
    variable.is_constant = section_of(variable).is_constant;
    all_.push_back(std::move(variable));
    return;
  }
}

size_t Variables::index(const std::string& name) const {
  const auto found = std::ranges::find(all_, name, &Variable::name);
  if (found == all_.end()) throw Error(ENOENT, "find variable '" + name + "'");
  return static_cast<size_t>(found - all_.begin());
}

const Variables::Section& Variables::section_of(const Variable& variable) const {
  return *std::ranges::find(sections_, variable.section, &Section::name);
}

uint8_t* Variables::memory(const Section& section) const {
  if (state_ == State::abandoned) throw std::invalid_argument("loading its object failed: open it again");
  if (state_ == State::loaded) return reinterpret_cast<uint8_t*>(section.mapping.start());
  size_t size = 0;  // requested each time: libbpf may free it
  return static_cast<uint8_t*>(bpf_map__initial_value(section.map, &size));
}

std::vector<uint8_t> Variables::read(size_t index) const {
  const Variable& variable = all_.at(index);
  const Section& section = section_of(variable);
  std::vector<uint8_t> value(variable.size);
  if (uint8_t* from = memory(section); from != nullptr) {
    copy_numbers(from + variable.offset, value.data(), value.size(), false);
    return value;
  }
  std::vector<uint8_t> all(section.size);
  const uint32_t key = 0;
  if (bpf_map_lookup_elem(bpf_map__fd(section.map), &key, all.data()) != 0)
    throw Error(errno, "read variable '" + variable.name + "'");
  std::copy_n(all.begin() + variable.offset, variable.size, value.begin());
  return value;
}

void Variables::write(size_t index, Bytes value) {
  const Variable& variable = all_.at(index);
  const Section& section = section_of(variable);
  if (value.size() != variable.size)
    throw std::invalid_argument("variable '" + variable.name + "' takes " + std::to_string(variable.size) + " bytes");
  if (state_ == State::loaded && variable.is_constant)
    throw Error(EPERM, "write variable '" + variable.name + "'", "constants are fixed once the object is loaded");
  uint8_t* to = memory(section);
  if (to == nullptr)
    throw Error(EOPNOTSUPP, "write variable '" + variable.name + "'",
                "section " + section.name +
                    " cannot be mapped, and would be written whole, over what the program counts in it: "
                    "set it before load, or keep locks, timers and kernel pointers in another section");
  std::vector<uint8_t> copy(value.begin(), value.end());
  copy_numbers(to + variable.offset, copy.data(), copy.size(), true);
}

void Variables::map_memory() {
  const auto page = static_cast<size_t>(::getpagesize());
  for (Section& section : sections_) {
    // Not on every kernel, nor for a section with kernel objects in it.
    if ((bpf_map__map_flags(section.map) & BPF_F_MMAPABLE) == 0) continue;
    const size_t length = (section.size + page - 1) / page * page;
    section.mapping =
        Mapping(bpf_map__fd(section.map), length, section.is_constant ? PROT_READ : PROT_READ | PROT_WRITE, 0,
                "map section '" + section.name + "'");
  }
  state_ = State::loaded;
}

}  // namespace netkit_bpf
