// SPDX-License-Identifier: MIT
#include "bpf/map.hpp"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <cerrno>
#include <utility>

#include "base/counters.hpp"
#include "base/error.hpp"
#include "base/privilege.hpp"
#include "bpf/map_error.hpp"
#include "bpf/pin.hpp"

namespace netkit_bpf {

namespace {

constexpr int enotsupp = 524;  // the kernel's own, which has no name here

MapInfo read_info(int fd) {
  bpf_map_info info{};
  uint32_t size = sizeof(info);
  if (bpf_obj_get_info_by_fd(fd, &info, &size) != 0) throw Error(errno, "query a map");
  return {.id = info.id,
          .type = info.type,
          .key_size = info.key_size,
          .value_size = info.value_size,
          .max_entries = info.max_entries,
          .flags = info.map_flags,
          .name = &info.name[0],
          .btf = info.btf_id,
          .key_type = info.btf_key_type_id,
          .value_type = info.btf_value_type_id};
}

}  // namespace

Map::Map(Fd fd, std::string name) : fd_(std::move(fd)), info_(read_info(fd_.get())), name_(std::move(name)) {
  if (name_.empty()) name_ = info_.name;
  constexpr size_t slot = 8;
  value_room_ = is_per_cpu() ? (info_.value_size + slot - 1) / slot * slot * possible_cpus() : info_.value_size;
}

Map Map::open_pinned(const std::string& path) { return Map(pin::open(path, "map")); }

Map Map::open_id(uint32_t id) {
  Fd fd(bpf_map_get_fd_by_id(id));
  if (!fd) {
    const int error = errno;
    throw Error(error, "open map " + std::to_string(id), needs_sys_admin(error));
  }
  return Map(std::move(fd));
}

Map Map::create(const MapInfo& info, const Map* inner) {
  LIBBPF_OPTS(bpf_map_create_opts, options, .inner_map_fd = static_cast<uint32_t>(inner == nullptr ? 0 : inner->fd()),
              .map_flags = info.flags);
  Fd fd(bpf_map_create(static_cast<bpf_map_type>(info.type), info.name.c_str(), info.key_size, info.value_size,
                       info.max_entries, &options));
  if (!fd) throw_map_error(errno, info);
  return Map(std::move(fd), info.name);
}

bool Map::is_per_cpu() const noexcept {
  switch (info_.type) {
    case BPF_MAP_TYPE_PERCPU_HASH:
    case BPF_MAP_TYPE_PERCPU_ARRAY:
    case BPF_MAP_TYPE_LRU_PERCPU_HASH:
    case BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE:
      return true;
    default:
      return false;
  }
}

std::optional<Map::Data> Map::lookup(Bytes key) const {
  Data value(value_room_);
  if (bpf_map_lookup_elem(fd_.get(), key.empty() ? nullptr : key.data(), value.data()) == 0) return value;
  if (errno == ENOENT) return std::nullopt;
  throw Error(errno, "look up in map '" + name_ + "'");
}

std::optional<Map::Data> Map::take(Bytes key) const {
  Data value(value_room_);
  if (bpf_map_lookup_and_delete_elem(fd_.get(), key.empty() ? nullptr : key.data(), value.data()) == 0) return value;
  const int error = errno;
  if (error == ENOENT) return std::nullopt;
  // Not for all types of maps, and for hashes since 5.14.
  if (error != EOPNOTSUPP && error != enotsupp && error != EINVAL)
    throw Error(error, "take an element out of map '" + name_ + "'");
  std::optional<Data> found = lookup(key);
  if (found && !erase(key)) return std::nullopt;
  return found;
}

bool Map::may_hold(Bytes value) const {
  Data asked(value.begin(), value.end());
  if (bpf_map_lookup_elem(fd_.get(), nullptr, asked.data()) == 0) return true;
  if (errno == ENOENT) return false;
  throw Error(errno, "look up in map '" + name_ + "'");
}

bool Map::update(Bytes key, Bytes value, uint64_t flags) const {
  if (bpf_map_update_elem(fd_.get(), key.empty() ? nullptr : key.data(), value.data(), flags) == 0) return true;
  const int error = errno;
  if (flags != BPF_ANY && (error == EEXIST || error == ENOENT)) return false;
  throw Error(error, "update map '" + name_ + "'", update_advice(error));
}

bool Map::erase(Bytes key) const {
  if (bpf_map_delete_elem(fd_.get(), key.data()) == 0) return true;
  if (errno == ENOENT) return false;
  throw Error(errno, "delete from map '" + name_ + "'");
}

std::optional<Map::Data> Map::next_key(Bytes key) const {
  Data next(info_.key_size);
  if (bpf_map_get_next_key(fd_.get(), key.empty() ? nullptr : key.data(), next.data()) == 0) return next;
  if (errno == ENOENT) return std::nullopt;
  throw Error(errno, "iterate over map '" + name_ + "'");
}

void Map::pin(const std::string& path) const { pin::create(fd_.get(), path, "map '" + name_ + "'"); }

void Map::unpin(const std::string& path) const { pin::remove(path, "map '" + name_ + "'"); }

}  // namespace netkit_bpf
