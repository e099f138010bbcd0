// SPDX-License-Identifier: MIT
// Many elements of a map at once.
#include <bpf/bpf.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <unordered_set>
#include <utility>

#include "base/bytes.hpp"
#include "base/error.hpp"
#include "bpf/map.hpp"
#include "bpf/map_error.hpp"

namespace netkit_bpf {

namespace {

constexpr int enotsupp = 524;          // the kernel's own, which has no name here
constexpr uint32_t first_batch = 256;  // elements; grows if a bucket of a hash does not fit
constexpr uint32_t largest_batch = 65536;
constexpr int most_interruptions = 8;

// Whether the kernel has no batches: at all (EINVAL before 5.6) or for this type of map.
bool is_unsupported(int error) { return error == EINVAL || error == EOPNOTSUPP || error == enotsupp; }

std::string key_text(Bytes key) { return {reinterpret_cast<const char*>(key.data()), key.size()}; }

void append(Map::Data& to, Bytes data) { to.insert(to.end(), data.begin(), data.end()); }

// Elements in the order in which they came, each key once: keys can move to places that the walk has yet to visit.
class Collector {
 public:
  explicit Collector(const Map& map) : map_(map) {}

  bool add(Bytes key, Bytes value) {
    if (!seen_.insert(key_text(key)).second) return false;
    append(elements_.keys, key);
    append(elements_.values, value);
    return true;
  }
  void add_batch(Bytes keys, Bytes values, uint32_t count) {
    const size_t key_size = map_.info().key_size;
    for (size_t i = 0; i < count; ++i)
      add(keys.subspan(i * key_size, key_size), values.subspan(i * map_.value_room(), map_.value_room()));
  }
  [[nodiscard]] MapElements take() { return std::move(elements_); }

 private:
  const Map& map_;
  MapElements elements_;
  std::unordered_set<std::string> seen_;
};

// False if the kernel has no batches for this map, or gives up: before 6.13 it returns EINTR if an element vanishes,
// and always at an empty slot of an array of maps.
bool read_in_batches(const Map& map, Collector& collector) {
  const size_t key_size = map.info().key_size;
  uint32_t room = std::clamp(map.info().max_entries, 1U, first_batch);
  Map::Data at(std::max(key_size, sizeof(uint32_t)));  // of a hash it is a bucket's number, of others a key
  Map::Data next(at.size());
  int interrupted = 0;
  for (bool is_first = true;;) {
    Map::Data keys(room * key_size);
    Map::Data values(room * map.value_room());
    uint32_t count = room;
    const int result = bpf_map_lookup_batch(map.fd(), is_first ? nullptr : at.data(), next.data(), keys.data(),
                                            values.data(), &count, nullptr);
    const int error = result == 0 ? 0 : errno;
    if (error == EINTR) {
      if (++interrupted > most_interruptions) return false;
      continue;
    }
    if (error == ENOSPC && room < map.info().max_entries) {
      room = room > map.info().max_entries / 2 ? map.info().max_entries : room * 2;
      continue;
    }
    if (is_first && is_unsupported(error)) return false;
    if (error != 0 && error != ENOENT) throw Error(error, "read map '" + map.name() + "'");
    collector.add_batch(keys, values, count);
    if (error == ENOENT) return true;
    is_first = false;
    at.swap(next);
    room = std::min({room * 2, largest_batch, map.info().max_entries});
  }
}

void read_one_by_one(const Map& map, Collector& collector) {
  // A key that vanishes during the walk sends it back to the start; constant changes must not keep it going for ever.
  const uint64_t most_steps = 4 * uint64_t{map.info().max_entries} + 16;
  std::optional<Map::Data> key = map.next_key({});
  for (uint64_t step = 0; key && step < most_steps; ++step) {
    if (const std::optional<Map::Data> value = map.lookup(*key)) collector.add(*key, *value);
    key = map.next_key(*key);
  }
}

}  // namespace

MapElements read_all(const Map& map) {
  Collector collector(map);
  if (!read_in_batches(map, collector)) read_one_by_one(map, collector);
  return collector.take();
}

// Values lie in the order of the keys, which are numbers from 0 on.
std::vector<uint64_t> sum_over_cpus(const Map& map) {
  const uint32_t total = map.info().max_entries;
  const size_t words = (map.info().value_size + sizeof(uint64_t) - 1) / sizeof(uint64_t);
  const size_t cpus = map.value_room() / (words * sizeof(uint64_t));
  std::vector<uint64_t> sums(total * words);
  const auto add = [&](uint32_t key, Bytes values) {
    for (size_t at = 0; at < cpus * words; ++at)
      sums[key * words + at % words] += copy_at<uint64_t>(values, at * sizeof(uint64_t));
  };
  constexpr size_t batch_bytes = 1U << 20;
  const auto per_batch = static_cast<uint32_t>(std::clamp<size_t>(batch_bytes / map.value_room(), 1, 1024));
  Map::Data values(per_batch * map.value_room());
  std::vector<uint32_t> keys(per_batch);
  uint32_t at = 0;
  for (uint32_t read = 0; read < total;) {
    uint32_t count = std::min(per_batch, total - read);
    uint32_t next = 0;
    const int result =
        bpf_map_lookup_batch(map.fd(), read == 0 ? nullptr : &at, &next, keys.data(), values.data(), &count, nullptr);
    const int error = result == 0 ? 0 : errno;
    if (read == 0 && is_unsupported(error)) break;
    if (error != 0 && error != ENOENT) throw Error(error, "read map '" + map.name() + "'");
    for (uint32_t i = 0; i < count; ++i) add(keys[i], Bytes(values).subspan(i * map.value_room(), map.value_room()));
    read += count;
    at = next;
    if (error == ENOENT || read == total) return sums;
  }
  for (uint32_t key = 0; key < total; ++key) {
    const std::optional<Map::Data> value = map.lookup({reinterpret_cast<const uint8_t*>(&key), sizeof(key)});
    if (value) add(key, *value);
  }
  return sums;
}

void write_all(const Map& map, Bytes keys, Bytes values) {
  const size_t key_size = map.info().key_size;
  const size_t room = map.value_room();
  const auto total = static_cast<uint32_t>(keys.size() / key_size);
  uint32_t written = 0;
  while (written < total) {
    const uint32_t asked = std::min(total - written, largest_batch);
    uint32_t count = asked;
    const Bytes some_keys = keys.subspan(written * key_size);
    const Bytes some_values = values.subspan(written * room);
    if (bpf_map_update_batch(map.fd(), some_keys.data(), some_values.data(), &count, nullptr) == 0) {
      written += count;
      continue;
    }
    if (written == 0 && is_unsupported(errno)) break;
    const int error = errno;
    if (count < asked) written += count;  // otherwise the kernel refused before it began, and left the count alone
    const std::string advice = update_advice(error);
    throw Error(error, "update map '" + map.name() + "'",
                (advice.empty() ? "" : advice + "; ") + std::to_string(written) + " of " + std::to_string(total) +
                    " elements were written");
  }
  // With BPF_ANY, update() never returns false.
  for (; written < total; ++written) {
    static_cast<void>(
        map.update(keys.subspan(written * key_size, key_size), values.subspan(written * room, room), BPF_ANY));
  }
}

size_t erase_all(const Map& map, Bytes keys) {
  const size_t key_size = map.info().key_size;
  size_t erased = 0;
  for (size_t at = 0; at < keys.size(); at += key_size) erased += map.erase(keys.subspan(at, key_size)) ? 1 : 0;
  return erased;
}

}  // namespace netkit_bpf
