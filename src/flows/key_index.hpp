// SPDX-License-Identifier: MIT
// Where a key is in a sequence of them: a hash table of numbers, of which a look-up touches a line or two.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <type_traits>
#include <utility>
#include <vector>

namespace netkit_bpf {

// Keys are whole words without padding.
template <typename Key>
class KeyIndex {
  static_assert(sizeof(Key) % sizeof(uint64_t) == 0 && std::is_trivially_copyable_v<Key>);

 public:
  static constexpr uint32_t none = std::numeric_limits<uint32_t>::max();

  // The number of the key; `none` if it has none. at(number) gives the key of a number.
  template <typename At>
  [[nodiscard]] uint32_t find(const Key& key, At at) const {
    if (slots_.empty()) return none;
    return slots_[place(key, at)];
  }

  // The number of the key, which is `next` if it had none: the caller appends it then.
  template <typename At>
  uint32_t find_or_add(const Key& key, size_t next, At at) {
    if ((used_ + 1) * 2 > slots_.size()) grow(at);
    uint32_t& slot = slots_[place(key, at)];
    if (slot == none) {
      if (next >= none) throw std::length_error("too many flows");
      slot = static_cast<uint32_t>(next);
      ++used_;
    }
    return slot;
  }

  // Fetches what guess() looks at.
  void prefetch(const Key& key) const {
    if (!slots_.empty()) __builtin_prefetch(&slots_[hash(key) & (slots_.size() - 1)]);
  }
  // What is likely the number of the key, or `none`.
  [[nodiscard]] uint32_t guess(const Key& key) const {
    return slots_.empty() ? none : slots_[hash(key) & (slots_.size() - 1)];
  }

  void clear() {
    slots_.clear();
    used_ = 0;
  }

 private:
  static constexpr size_t least = 64;

  static uint64_t hash(const Key& key) {
    std::array<uint64_t, sizeof(Key) / sizeof(uint64_t)> words;
    std::memcpy(words.data(), &key, sizeof(key));
    uint64_t sum = 0;
    for (const uint64_t word : words) {
      sum = (sum ^ word) * 0x9e3779b97f4a7c15U;
      sum ^= sum >> 32;
    }
    return sum;
  }

  // The slot that holds the key, or the free one where it belongs.
  template <typename At>
  [[nodiscard]] size_t place(const Key& key, At at) const {
    const size_t mask = slots_.size() - 1;
    size_t slot = hash(key) & mask;
    while (slots_[slot] != none && std::memcmp(&at(slots_[slot]), &key, sizeof(key)) != 0) slot = (slot + 1) & mask;
    return slot;
  }

  template <typename At>
  void grow(At at) {
    const std::vector<uint32_t> before =
        std::exchange(slots_, std::vector<uint32_t>(slots_.empty() ? least : slots_.size() * 2, none));
    for (const uint32_t number : before)
      if (number != none) slots_[place(at(number), at)] = number;
  }

  std::vector<uint32_t> slots_;
  size_t used_ = 0;
};

}  // namespace netkit_bpf
