// SPDX-License-Identifier: MIT
// Sets of rules, a bit for each. They have much in common: a row is made of groups of words, of which equal ones are
// kept once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "firewall/interner.hpp"

namespace netkit_bpf::firewall {

// How many words the rows of a ruleset have, and how they are summed up.
struct Shape {
  explicit Shape(size_t rules);

  size_t group;    // words that one bit of a summary stands for
  size_t groups;   // in a row
  size_t summary;  // words of summary; 0 if there is one group

  [[nodiscard]] size_t words() const { return group * groups; }
};

// Rows are named by numbers, and so are the groups that they are made of.
class Rows {
 public:
  static constexpr uint32_t empty_group = 0;

  // Throws std::length_error, as all that adds does, once they would take more than `most` bytes.
  Rows(const Shape& shape, size_t most);

  // The row that has no rule.
  [[nodiscard]] uint32_t empty() const { return empty_; }
  // A row with some rules more than another.
  uint32_t add(uint32_t to, std::span<const uint32_t> bits) {
    begin(to);
    set(bits);
    return finish();
  }
  // The same in steps. What is finished can go on.
  void begin(uint32_t row);
  void set(std::span<const uint32_t> bits);
  void clear(std::span<const uint32_t> bits);
  uint32_t finish();
  // What two of them have in common.
  uint32_t add_common(uint32_t left, uint32_t right);

  [[nodiscard]] std::span<const uint32_t> groups_of(uint32_t row) const { return rows_[row]; }
  [[nodiscard]] std::span<const uint64_t> words_of(uint32_t group) const { return groups_[group]; }
  [[nodiscard]] size_t group_count() const { return groups_.size(); }

 private:
  // The word that has a bit, of a group that is being changed.
  uint64_t& word_of(uint32_t bit);

  size_t group_words_;
  Interner<uint64_t> groups_;
  Interner<uint32_t> rows_;
  uint32_t empty_ = 0;

  std::vector<uint32_t> made_;     // the row that is being made
  std::vector<uint64_t> words_;    // of its groups that have changed
  std::vector<uint32_t> changed_;  // their indices
  std::vector<bool> is_changed_;
  uint32_t left_ = 0, right_ = 0, common_ = 0;  // the last ones
};

}  // namespace netkit_bpf::firewall
