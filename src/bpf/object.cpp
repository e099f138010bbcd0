// SPDX-License-Identifier: MIT
#include "bpf/object.hpp"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <cerrno>
#include <stdexcept>
#include <utility>

#include "base/error.hpp"
#include "base/libbpf_log.hpp"
#include "base/privilege.hpp"
#include "bpf/elf_check.hpp"
#include "bpf/load_error.hpp"
#include "bpf/map_error.hpp"

namespace netkit_bpf {

namespace {

void reuse(bpf_map* map, int fd) {
  const LibbpfLog log;
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
  const std::vector<DataSymbol> symbols = check_object(image, name);
  const LibbpfLog log;
  LIBBPF_OPTS(bpf_object_open_opts, options, .object_name = name.c_str());
  if (!pin_root.empty()) options.pin_root_path = pin_root.c_str();
  object_.reset(bpf_object__open_mem(image.data(), image.size(), &options));
  if (!object_) throw_open_error(errno, log.text(), name);
  messages_ = log.text();
  maps_ = describe_maps();
  variables_ = std::make_unique<Variables>(object_.get(), symbols);
}

std::vector<MapSpec> Object::describe_maps() const {
  std::vector<MapSpec> found;
  bpf_map* map = nullptr;
  bpf_object__for_each_map(map, object_.get()) {
    if (bpf_map__is_internal(map)) continue;
    const char* path = bpf_map__pin_path(map);
    found.push_back({bpf_map__name(map),
                     {.type = bpf_map__type(map),
                      .key_size = bpf_map__key_size(map),
                      .value_size = bpf_map__value_size(map),
                      .max_entries = bpf_map__max_entries(map),
                      .flags = bpf_map__map_flags(map),
                      .name = bpf_map__name(map),
                      .key_type = bpf_map__btf_key_type_id(map),
                      .value_type = bpf_map__btf_value_type_id(map)},
                     path == nullptr ? "" : path,
                     bpf_map__autocreate(map)});
  }
  return found;
}

std::vector<ProgramSpec> Object::programs() const {
  std::vector<ProgramSpec> found;
  bpf_program* program = nullptr;
  bpf_object__for_each_program(program, object_.get()) {
    found.push_back({bpf_program__name(program), bpf_program__section_name(program),
                     static_cast<uint32_t>(bpf_program__type(program)), bpf_program__autoload(program)});
  }
  return found;
}

std::optional<BtfTypes> Object::types() const {
  const btf* own = bpf_object__btf(object_.get());
  if (own == nullptr) return std::nullopt;
  uint32_t size = 0;
  const LibbpfLog log;
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

bpf_map* Object::find_map(const std::string& name) const {
  bpf_map* map = bpf_object__find_map_by_name(object_.get(), name.c_str());
  if (map == nullptr) throw Error(ENOENT, "find map '" + name + "' in BPF object " + name_);
  return map;
}

bpf_program* Object::find_program(const std::string& name) const {
  bpf_program* program = bpf_object__find_program_by_name(object_.get(), name.c_str());
  if (program == nullptr) throw Error(ENOENT, "find program '" + name + "' in BPF object " + name_);
  return program;
}

void Object::set_max_entries(const std::string& map, uint32_t entries) {
  const LibbpfLog log;
  const std::lock_guard lock(mutex_);
  if (const int error = bpf_map__set_max_entries(find_map(map), entries); error != 0)
    throw Error(-error, "set size of map '" + map + "'");
}

void Object::set_value_size(const std::string& map, uint32_t bytes) {
  const LibbpfLog log;
  const std::lock_guard lock(mutex_);
  if (const int error = bpf_map__set_value_size(find_map(map), bytes); error != 0)
    throw Error(-error, "set size of the values of map '" + map + "'");
}

void Object::reuse_map(const std::string& map, int fd) {
  const std::lock_guard lock(mutex_);
  reuse(find_map(map), fd);
}

void Object::set_autoload(const std::string& program, bool autoload) {
  const std::lock_guard lock(mutex_);
  if (const int error = bpf_program__set_autoload(find_program(program), autoload); error != 0)
    throw Error(-error, "set whether program '" + program + "' is loaded");
}

void Object::set_autocreate(const std::string& map, bool autocreate) {
  const std::lock_guard lock(mutex_);
  if (const int error = bpf_map__set_autocreate(find_map(map), autocreate); error != 0)
    throw Error(-error, "set whether map '" + map + "' is made");
}

// A ring buffer holds records, not values, and the kernel refuses one with a value size or type. Its definition may
// still name the type of the records for readers; then the map is made here, without that type.
void Object::create_typed_rings() {
  bpf_map* map = nullptr;
  bpf_object__for_each_map(map, object_.get()) {
    const bool is_reused = bpf_map__fd(map) >= 0;
    if (!is_ring(map) || is_reused || !bpf_map__autocreate(map) || bpf_map__btf_value_type_id(map) == 0) continue;
    LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = bpf_map__map_flags(map),
                .numa_node = bpf_map__numa_node(map));
    const std::string name = bpf_map__name(map);
    const Fd ring(bpf_map_create(bpf_map__type(map), name.c_str(), 0, 0, bpf_map__max_entries(map), &options));
    if (!ring)
      throw_map_error(errno, {.type = bpf_map__type(map), .max_entries = bpf_map__max_entries(map), .name = name},
                      name_);
    bpf_map__set_value_size(map, 0);
    reuse(map, ring.get());
  }
}

// libbpf probes each kernel feature once in the life of a process, and takes a probe that got no descriptor for a
// missing feature (features.c): global variables are then refused for ever. So enough descriptors must be free.
void Object::check_descriptors() const {
  constexpr size_t at_once = 8;  // the types, the kernel's types, and the probes
  constexpr size_t of_each = 2;  // one of libbpf, and one that outlives it
  size_t count = maps_.size() + at_once;
  bpf_program* program = nullptr;
  bpf_object__for_each_program(program, object_.get()) count += bpf_program__autoload(program) ? of_each : 0;
  std::vector<Fd> spare;
  for (size_t i = 0; i < count; ++i) {
    spare.emplace_back(::eventfd(0, EFD_CLOEXEC));
    if (!spare.back()) throw Error(errno, "load BPF object " + name_, shortage_advice(errno));
  }
}

void Object::load() {
  const std::lock_guard lock(mutex_);
  if (has_failed_) throw std::invalid_argument("BPF object " + name_ + " failed to load before: open it again");
  bpf_program* program = nullptr;
  bpf_object__for_each_program(program, object_.get()) {
    if (bpf_program__type(program) == BPF_PROG_TYPE_UNSPEC && bpf_program__autoload(program))
      throw Error(EINVAL, std::string("load program '") + bpf_program__name(program) + "'",
                  std::string("its section \"") + bpf_program__section_name(program) +
                      R"(" does not name a program type: try SEC("netkit/primary") or SEC("netkit/peer"))");
  }
  const LibbpfLog log;
  check_descriptors();
  create_typed_rings();
  if (const int error = -bpf_object__load(object_.get()); error != 0) {
    has_failed_ = true;  // libbpf can load an object only once
    variables_->abandon();
    throw_load_error(error, log.text(), name_, describe_maps());
  }
  messages_ += log.text();
  variables_->map_memory();
}

bool Object::has_failed() const {
  const std::lock_guard lock(mutex_);
  return has_failed_;
}

std::string Object::take_messages() {
  const std::lock_guard lock(mutex_);
  return without_newline(std::exchange(messages_, {}));
}

int Object::program(const std::string& name) const {
  const std::lock_guard lock(mutex_);
  return std::max(bpf_program__fd(find_program(name)), -1);
}

int Object::map(const std::string& name) const {
  const std::lock_guard lock(mutex_);
  const bpf_map* found = find_map(name);
  // For a map that it did not make, libbpf holds a placeholder descriptor.
  return bpf_map__autocreate(found) ? std::max(bpf_map__fd(found), -1) : -1;
}

Program Object::open_program(const std::string& name) const {
  const int fd = program(name);
  if (fd < 0) throw std::invalid_argument("program '" + name + "' was not loaded");
  return {duplicate(fd), name};
}

Map Object::open_map(const std::string& name) const {
  const int fd = map(name);
  if (fd < 0) throw std::invalid_argument("map '" + name + "' was not made");
  return Map(duplicate(fd), name);
}

TestRun Object::test_run(const std::string& name, std::span<const uint8_t> packet, uint32_t repeat) const {
  return open_program(name).test_run(packet, repeat);
}

}  // namespace netkit_bpf
