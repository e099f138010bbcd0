// SPDX-License-Identifier: MIT
// A map that the kernel holds: bpf(2), Documentation/bpf/maps.rst.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.hpp"
#include "base/fd.hpp"
#include "bpf/map_info.hpp"

namespace netkit_bpf {

// Any thread may use it. Keys and values are the bytes of one element; a value of a per-CPU map holds one
// for each possible CPU, each rounded up to 8 bytes. A queue, a stack and a bloom filter have empty keys.
class Map {
 public:
  using Data = std::vector<uint8_t>;

  // `name` is for messages; without one it is the kernel's.
  explicit Map(Fd fd, std::string name = {});
  // Throws std::invalid_argument if something else is pinned.
  static Map open_pinned(const std::string& path);
  static Map open_id(uint32_t id);
  // Makes a new map without types; type, name, sizes, max_entries and flags come from `info`. For a map of maps,
  // `inner` is a map like those that it holds.
  static Map create(const MapInfo& info, const Map* inner = nullptr);

  [[nodiscard]] int fd() const noexcept { return fd_.get(); }
  [[nodiscard]] const std::string& name() const noexcept { return name_; }
  [[nodiscard]] const MapInfo& info() const noexcept { return info_; }
  [[nodiscard]] bool is_per_cpu() const noexcept;
  // Bytes of one value; for a per-CPU map, of the values of all CPUs.
  [[nodiscard]] size_t value_room() const noexcept { return value_room_; }

  // Nothing if there is no such key; for a queue or stack, the next value, which stays.
  [[nodiscard]] std::optional<Data> lookup(Bytes key) const;
  // Looks up and deletes in one step, if the kernel supports that for this type of map.
  [[nodiscard]] std::optional<Data> take(Bytes key) const;
  // Whether a bloom filter says that it holds the value.
  [[nodiscard]] bool may_hold(Bytes value) const;
  // False if `flags` (BPF_NOEXIST, BPF_EXIST) forbid it.
  [[nodiscard]] bool update(Bytes key, Bytes value, uint64_t flags) const;
  // False if there is no such key.
  [[nodiscard]] bool erase(Bytes key) const;
  // The next key; the first one for an empty key. Nothing after the last.
  [[nodiscard]] std::optional<Data> next_key(Bytes key) const;

  // Pins it at a path on a BPF file system.
  void pin(const std::string& path) const;
  void unpin(const std::string& path) const;

 private:
  Fd fd_;
  MapInfo info_;
  std::string name_;
  size_t value_room_ = 0;
};

// All elements: keys one behind the other, and values.
struct MapElements {
  Map::Data keys;
  Map::Data values;
};

// A copy of all elements, read in batches if the kernel has them for this type of map (5.6). It may or may not include
// changes made meanwhile; no element is in it twice.
MapElements read_all(const Map& map);

// For a per-CPU array: the sums over the CPUs, with the values taken as arrays of 64-bit numbers.
std::vector<uint64_t> sum_over_cpus(const Map& map);
// Writes elements, in batches if the kernel has them; throws an Error that says how many it wrote.
void write_all(const Map& map, Bytes keys, Bytes values);
// Deletes elements and returns how many of them existed.
size_t erase_all(const Map& map, Bytes keys);

}  // namespace netkit_bpf
