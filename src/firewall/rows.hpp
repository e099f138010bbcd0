// SPDX-License-Identifier: MIT
// Sets of rules, a bit for each, of which equal ones are kept once.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "firewall/sets.hpp"

namespace netkit_bpf::firewall {

using Words = std::vector<uint64_t>;

// Sets of one size, numbered in the order in which they came.
class Rows {
 public:
  // Throws std::length_error once they would take more than `most` bytes.
  Rows(size_t words, size_t most) : words_(words), most_(most) {}

  uint32_t add(std::span<const uint64_t> row);
  // What two of them have in common.
  uint32_t add_common(uint32_t left, uint32_t right);
  [[nodiscard]] std::span<const uint64_t> operator[](uint32_t number) const {
    return {&blocks_[number / per_block][number % per_block * words_], words_};
  }
  [[nodiscard]] size_t words() const { return words_; }

 private:
  static constexpr size_t per_block = 64;

  size_t words_;
  size_t most_;
  uint32_t count_ = 0;
  std::vector<std::unique_ptr<uint64_t[]>> blocks_;  // which do not move as they become more
  std::unordered_multimap<uint64_t, uint32_t> by_hash_;
  Words common_;
};

// Rules that ask the same of a property.
struct Group {
  std::vector<uint32_t> rules;
  Intervals intervals;
};

// From where on which rules are left.
struct Boundary {
  Address first;
  uint32_t row = 0;
};

// Cuts all numbers into intervals, in each of which the same groups are. `base` are the rules that ask nothing.
class Sweep {
 public:
  Sweep(Rows& rows, const Words& base, std::span<const Group> groups);

  // The first boundary is 0.
  std::vector<Boundary> boundaries();
  // The row of the rules that ask nothing, and of those of some groups.
  uint32_t row_of(std::span<const uint64_t> active);

 private:
  Rows& rows_;
  const Words& base_;
  std::span<const Group> groups_;
  size_t words_;  // of a set of groups
  Rows seen_;     // sets of groups
  std::vector<uint32_t> row_of_seen_;
};

void set_bit(std::span<uint64_t> words, size_t bit);

}  // namespace netkit_bpf::firewall
