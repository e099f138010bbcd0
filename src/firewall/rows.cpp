// SPDX-License-Identifier: MIT
#include "firewall/rows.hpp"

#include <netkit_bpf/firewall.h>

#include <algorithm>

namespace netkit_bpf::firewall {

namespace {

size_t divided(size_t number, size_t by) { return (number + by - 1) / by; }

}  // namespace

// A group of four words is looked at in about the time of one, and lets one word of summary do for 16,384 rules.
Shape::Shape(size_t rules) {
  constexpr size_t usual = 4;
  const size_t words = std::max<size_t>(1, divided(rules, 64));
  group = std::min(words, words <= usual * 64 ? usual : size_t{NK_FW_GROUP});
  groups = divided(words, group);
  summary = groups > 1 ? divided(groups, 64) : 0;
}

Rows::Rows(const Shape& shape, size_t most)
    : group_words_(shape.group),
      groups_(shape.group, most),
      rows_(shape.groups, most),
      made_(shape.groups, empty_group),
      words_(shape.words()),
      is_changed_(shape.groups) {
  groups_.add(std::span(words_).first(group_words_));
  empty_ = rows_.add(made_);
}

void Rows::begin(uint32_t row) { std::ranges::copy(rows_[row], made_.begin()); }

uint64_t& Rows::word_of(uint32_t bit) {
  const size_t group = bit / 64 / group_words_;
  if (!is_changed_[group]) {
    is_changed_[group] = true;
    changed_.push_back(static_cast<uint32_t>(group));
    std::ranges::copy(groups_[made_[group]], words_.begin() + static_cast<ptrdiff_t>(group * group_words_));
  }
  return words_[bit / 64];
}

void Rows::set(std::span<const uint32_t> bits) {
  for (const uint32_t bit : bits) word_of(bit) |= uint64_t{1} << bit % 64;
}

void Rows::clear(std::span<const uint32_t> bits) {
  for (const uint32_t bit : bits) word_of(bit) &= ~(uint64_t{1} << bit % 64);
}

uint32_t Rows::finish() {
  for (const uint32_t group : changed_) {
    made_[group] = groups_.add(std::span(words_).subspan(group * group_words_, group_words_));
    is_changed_[group] = false;
  }
  changed_.clear();
  return rows_.add(made_);
}

uint32_t Rows::add_common(uint32_t left, uint32_t right) {
  if (left == right) return left;
  const std::span<const uint32_t> first = rows_[left];
  const std::span<const uint32_t> second = rows_[right];
  // Whoever asks goes through rows that differ in few groups: the others are as they were the last time.
  const std::span<const uint32_t> last_first = rows_[left_];
  const std::span<const uint32_t> last_second = rows_[right_];
  const std::span<const uint32_t> last = rows_[common_];
  for (size_t group = 0; group < made_.size(); ++group) {
    if (first[group] == second[group] || first[group] == empty_group) {
      made_[group] = first[group];
    } else if (second[group] == empty_group) {
      made_[group] = empty_group;
    } else if (first[group] == last_first[group] && second[group] == last_second[group]) {
      made_[group] = last[group];
    } else {
      for (size_t at = 0; at < group_words_; ++at) words_[at] = groups_[first[group]][at] & groups_[second[group]][at];
      made_[group] = groups_.add(std::span(words_).first(group_words_));
    }
  }
  left_ = left;
  right_ = right;
  return common_ = rows_.add(made_);
}

}  // namespace netkit_bpf::firewall
