// SPDX-License-Identifier: MIT
#include "object.hpp"

#include <bpf/bpf.h>
#include <bpf/btf.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "error.hpp"
#include "libbpf_log.hpp"

namespace netkit_bpf {

namespace {

std::string without_newline(std::string text) {
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

// libbpf writes "libbpf: prog 'NAME': BPF program load failed: …" and then the verifier's log.
std::string refused_program(const std::string& log) {
  const size_t failed = log.find("BPF program load failed");
  if (failed == std::string::npos) return {};
  const size_t end = log.rfind('\'', failed);
  const size_t start = end == std::string::npos || end == 0 ? end : log.rfind('\'', end - 1);
  return start == std::string::npos ? std::string() : log.substr(start + 1, end - start - 1);
}

const char* load_advice(int error) {
  switch (error) {
    case EPERM:
      return "needs CAP_BPF and CAP_NET_ADMIN";
    case ENOMEM:
      return "not enough memory for a map: take a smaller ring_size";
    default:
      return "";
  }
}

}  // namespace

Object::Object(std::span<const uint8_t> image, const std::string& name)
    : object_(nullptr, bpf_object__close), name_(name) {
  const LibbpfLog log;
  LIBBPF_OPTS(bpf_object_open_opts, options, .object_name = name.c_str());
  object_.reset(bpf_object__open_mem(image.data(), image.size(), &options));
  if (!object_) throw Error(errno, "open BPF object " + name, without_newline(log.text()));
  messages_ = log.text();
}

bpf_map* Object::find_map(const std::string& name) const {
  bpf_map* map = bpf_object__find_map_by_name(object_.get(), name.c_str());
  if (map == nullptr) throw Error(ENOENT, "find map '" + name + "' in BPF object " + name_);
  return map;
}

bpf_map* Object::find_section(const std::string& name) const {
  bpf_map* map = nullptr;
  bpf_object__for_each_map(map, object_.get()) {
    if (bpf_map__is_internal(map) && std::string(bpf_map__name(map)).ends_with(name)) return map;
  }
  throw Error(ENOENT, "find section '" + name + "' in BPF object " + name_);
}

void Object::set_max_entries(const std::string& map, uint32_t entries) {
  if (const int error = bpf_map__set_max_entries(find_map(map), entries); error != 0)
    throw Error(-error, "set size of map '" + map + "'");
}

void Object::reuse_map(const std::string& map, int fd) {
  if (const int error = bpf_map__reuse_fd(find_map(map), fd); error != 0)
    throw Error(-error, "reuse map '" + map + "'");
}

std::vector<uint8_t> Object::section(const std::string& name) const {
  bpf_map* const map = find_section(name);
  if (!loaded_) {
    size_t size = 0;
    const auto* start = static_cast<const uint8_t*>(bpf_map__initial_value(map, &size));
    return {start, start + size};
  }
  std::vector<uint8_t> value(bpf_map__value_size(map));
  const uint32_t key = 0;
  if (bpf_map_lookup_elem(bpf_map__fd(map), &key, value.data()) != 0) throw Error(errno, "read section '" + name + "'");
  return value;
}

void Object::set_section(const std::string& name, std::span<const uint8_t> value) {
  bpf_map* const map = find_section(name);
  int error = 0;
  if (!loaded_) {
    error = -bpf_map__set_initial_value(map, value.data(), value.size());
  } else {
    const uint32_t key = 0;
    if (bpf_map_update_elem(bpf_map__fd(map), &key, value.data(), BPF_ANY) != 0) error = errno;
  }
  if (error != 0) throw Error(error, "write section '" + name + "'");
}

Object::Variable Object::variable(const std::string& name) const {
  const btf* types = bpf_object__btf(object_.get());
  if (types == nullptr) throw Error(ENOENT, "find variable '" + name + "'", "the object has no BTF: compile with -g");
  for (uint32_t id = 1; id < btf__type_cnt(types); ++id) {
    const btf_type* section = btf__type_by_id(types, id);
    if (!btf_is_datasec(section)) continue;
    const btf_var_secinfo* entries = btf_var_secinfos(section);
    for (uint16_t i = 0; i < btf_vlen(section); ++i) {
      const btf_type* variable = btf__type_by_id(types, entries[i].type);
      if (name == btf__name_by_offset(types, variable->name_off))
        return {btf__name_by_offset(types, section->name_off), entries[i].offset, entries[i].size};
    }
  }
  throw Error(ENOENT, "find variable '" + name + "' in BPF object " + name_);
}

void Object::load() {
  const LibbpfLog log;
  const int error = -bpf_object__load(object_.get());
  if (error == 0) {
    loaded_ = true;
    messages_ += log.text();
    return;
  }
  const std::string program = refused_program(log.text());
  // Without the privilege the verifier never saw the program.
  if (!program.empty() && error != EPERM) throw VerifierError(error, program, log.text());
  const std::string advice = load_advice(error);
  throw Error(error, "load BPF object " + name_, advice.empty() ? without_newline(log.text()) : advice);
}

std::string Object::take_messages() { return without_newline(std::exchange(messages_, {})); }

int Object::program(const std::string& name) const {
  const bpf_program* program = bpf_object__find_program_by_name(object_.get(), name.c_str());
  if (program == nullptr) throw Error(ENOENT, "find program '" + name + "' in BPF object " + name_);
  return bpf_program__fd(program);
}

int Object::map(const std::string& name) const { return bpf_map__fd(find_map(name)); }

std::vector<ProgramSpec> Object::programs() const {
  std::vector<ProgramSpec> found;
  bpf_program* program = nullptr;
  bpf_object__for_each_program(program, object_.get()) {
    found.push_back({bpf_program__name(program), bpf_program__section_name(program),
                     static_cast<uint32_t>(bpf_program__type(program))});
  }
  return found;
}

std::vector<std::string> Object::maps() const {
  std::vector<std::string> found;
  bpf_map* map = nullptr;
  bpf_object__for_each_map(map, object_.get()) {
    if (!bpf_map__is_internal(map)) found.emplace_back(bpf_map__name(map));
  }
  return found;
}

Program Object::open_program(const std::string& name) const { return {duplicate(program(name)), name}; }

TestRun Object::test_run(const std::string& name, std::span<const uint8_t> packet, uint32_t repeat) const {
  return open_program(name).test_run(packet, repeat);
}

}  // namespace netkit_bpf
