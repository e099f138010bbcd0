// SPDX-License-Identifier: MIT
#include "bpf/object.hpp"

#include <bpf/bpf.h>
#include <bpf/btf.h>

#include <cerrno>
#include <utility>

#include "base/error.hpp"
#include "bpf/elf_check.hpp"
#include "bpf/libbpf_log.hpp"
#include "bpf/load_error.hpp"

namespace netkit_bpf {

namespace {

void reuse(bpf_map* map, int fd) {
  if (const int error = bpf_map__reuse_fd(map, fd); error != 0)
    throw Error(-error, std::string("reuse map '") + bpf_map__name(map) + "'");
}

std::string without_newline(std::string text) {
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

bool is_ring(const bpf_map* map) {
  return bpf_map__type(map) == BPF_MAP_TYPE_RINGBUF || bpf_map__type(map) == BPF_MAP_TYPE_USER_RINGBUF;
}

}  // namespace

Object::Object(std::span<const uint8_t> image, const std::string& name, const std::string& pin_root)
    : object_(nullptr, bpf_object__close), name_(name) {
  check_object(image, name);
  const LibbpfLog log;
  LIBBPF_OPTS(bpf_object_open_opts, options, .object_name = name.c_str());
  if (!pin_root.empty()) options.pin_root_path = pin_root.c_str();
  object_.reset(bpf_object__open_mem(image.data(), image.size(), &options));
  if (!object_) {
    // Whatever number libbpf gives, ENOENT or one of its own: the file is what is wrong.
    const int error = errno == ENOMEM ? ENOMEM : ENOEXEC;
    throw Error(error, "open BPF object " + name, without_newline(log.text()));
  }
  messages_ = log.text();
  read_maps();
  variables_ = std::make_unique<Variables>(object_.get());
}

void Object::read_maps() {
  bpf_map* map = nullptr;
  bpf_object__for_each_map(map, object_.get()) {
    if (bpf_map__is_internal(map)) continue;
    const char* path = bpf_map__pin_path(map);
    maps_.push_back({bpf_map__name(map),
                     {.type = bpf_map__type(map),
                      .key_size = bpf_map__key_size(map),
                      .value_size = bpf_map__value_size(map),
                      .max_entries = bpf_map__max_entries(map),
                      .flags = bpf_map__map_flags(map),
                      .name = bpf_map__name(map),
                      .key_type = bpf_map__btf_key_type_id(map),
                      .value_type = bpf_map__btf_value_type_id(map)},
                     path == nullptr ? "" : path});
  }
}

std::vector<ProgramSpec> Object::programs() const {
  std::vector<ProgramSpec> found;
  bpf_program* program = nullptr;
  bpf_object__for_each_program(program, object_.get()) {
    found.push_back({bpf_program__name(program), bpf_program__section_name(program),
                     static_cast<uint32_t>(bpf_program__type(program))});
  }
  return found;
}

std::optional<BtfTypes> Object::types() const {
  const btf* own = bpf_object__btf(object_.get());
  if (own == nullptr) return std::nullopt;
  uint32_t size = 0;
  const void* raw = btf__raw_data(own, &size);
  btf* copy = raw == nullptr ? nullptr : btf__new(raw, size);
  if (copy == nullptr) throw Error(errno, "copy the types of BPF object " + name_);
  return BtfTypes({copy, btf__free});
}

std::vector<uint8_t> Object::read_variable(size_t index) const {
  const std::lock_guard lock(mutex_);
  return variables_->read(index);
}

void Object::write_variable(size_t index, Bytes value) {
  const std::lock_guard lock(mutex_);
  variables_->write(index, value);
}

std::vector<uint8_t> Object::section(const std::string& name) const {
  const std::lock_guard lock(mutex_);
  return variables_->section(name);
}

void Object::set_section(const std::string& name, Bytes value) {
  const std::lock_guard lock(mutex_);
  variables_->set_section(name, value);
}

bpf_map* Object::find_map(const std::string& name) const {
  bpf_map* map = bpf_object__find_map_by_name(object_.get(), name.c_str());
  if (map == nullptr) throw Error(ENOENT, "find map '" + name + "' in BPF object " + name_);
  return map;
}

void Object::set_max_entries(const std::string& map, uint32_t entries) {
  const std::lock_guard lock(mutex_);
  if (const int error = bpf_map__set_max_entries(find_map(map), entries); error != 0)
    throw Error(-error, "set size of map '" + map + "'");
}

void Object::set_value_size(const std::string& map, uint32_t bytes) {
  const std::lock_guard lock(mutex_);
  if (const int error = bpf_map__set_value_size(find_map(map), bytes); error != 0)
    throw Error(-error, "set size of the values of map '" + map + "'");
}

void Object::reuse_map(const std::string& map, int fd) {
  const std::lock_guard lock(mutex_);
  reuse(find_map(map), fd);
}

// A ring buffer holds records, not values, and the kernel refuses one with a size or type of them. Its definition may
// name the type of its records all the same, so that readers know it; then it is made here, without.
void Object::create_typed_rings() {
  bpf_map* map = nullptr;
  bpf_object__for_each_map(map, object_.get()) {
    const bool is_reused = bpf_map__fd(map) >= 0;
    if (!is_ring(map) || is_reused || bpf_map__btf_value_type_id(map) == 0) continue;
    LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = bpf_map__map_flags(map),
                .numa_node = bpf_map__numa_node(map));
    const std::string name = bpf_map__name(map);
    const Fd ring(bpf_map_create(bpf_map__type(map), name.c_str(), 0, 0, bpf_map__max_entries(map), &options));
    if (!ring) throw_map_error(errno, name, name_);
    bpf_map__set_value_size(map, 0);
    reuse(map, ring.get());
  }
}

void Object::load() {
  const std::lock_guard lock(mutex_);
  bpf_program* program = nullptr;
  bpf_object__for_each_program(program, object_.get()) {
    if (bpf_program__type(program) == BPF_PROG_TYPE_UNSPEC && bpf_program__autoload(program))
      throw Error(EINVAL, std::string("load program '") + bpf_program__name(program) + "'",
                  std::string("its section \"") + bpf_program__section_name(program) +
                      R"(" names no type of program: try SEC("netkit/primary") or SEC("netkit/peer"))");
  }
  const LibbpfLog log;
  create_typed_rings();
  if (const int error = -bpf_object__load(object_.get()); error != 0) throw_load_error(error, log.text(), name_);
  messages_ += log.text();
  variables_->map_memory();
}

std::string Object::take_messages() {
  const std::lock_guard lock(mutex_);
  return without_newline(std::exchange(messages_, {}));
}

int Object::program(const std::string& name) const {
  const bpf_program* program = bpf_object__find_program_by_name(object_.get(), name.c_str());
  if (program == nullptr) throw Error(ENOENT, "find program '" + name + "' in BPF object " + name_);
  const std::lock_guard lock(mutex_);
  return bpf_program__fd(program);
}

int Object::map(const std::string& name) const {
  const std::lock_guard lock(mutex_);
  return bpf_map__fd(find_map(name));
}

Program Object::open_program(const std::string& name) const { return {duplicate(program(name)), name}; }

Map Object::open_map(const std::string& name) const { return Map(duplicate(map(name)), name); }

TestRun Object::test_run(const std::string& name, std::span<const uint8_t> packet, uint32_t repeat) const {
  return open_program(name).test_run(packet, repeat);
}

}  // namespace netkit_bpf
