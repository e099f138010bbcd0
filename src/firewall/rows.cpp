// SPDX-License-Identifier: MIT
#include "firewall/rows.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <stdexcept>

namespace netkit_bpf::firewall {

namespace {

// Four lanes, so that one multiplication need not wait for the other.
uint64_t hash_of(std::span<const uint64_t> words) {
  constexpr uint64_t factor = 0x9e3779b97f4a7c15;  // 2^64 / golden ratio
  uint64_t lanes[4] = {1, 2, 3, 4};                // NOLINT(*-avoid-c-arrays)
  size_t at = 0;
  for (; at + 4 <= words.size(); at += 4)
    for (size_t lane = 0; lane < 4; ++lane) lanes[lane] = (std::rotl(lanes[lane], 29) ^ words[at + lane]) * factor;
  for (; at < words.size(); ++at) lanes[0] = (std::rotl(lanes[0], 29) ^ words[at]) * factor;
  uint64_t hash = 0;
  for (const uint64_t lane : lanes) hash = (std::rotl(hash, 31) ^ lane ^ lane >> 32) * factor;
  return hash;
}

}  // namespace

void set_bit(std::span<uint64_t> words, size_t bit) { words[bit / 64] |= uint64_t{1} << bit % 64; }

uint32_t Rows::add(std::span<const uint64_t> row) {
  const uint64_t hash = hash_of(row);
  const auto [first, last] = by_hash_.equal_range(hash);
  for (auto found = first; found != last; ++found)
    if (std::ranges::equal((*this)[found->second], row)) return found->second;
  if ((uint64_t{count_} + 1) * words_ * sizeof(uint64_t) > most_)
    throw std::length_error("more than " + std::to_string(most_ >> 20) + " MiB of rows");
  if (count_ % per_block == 0) blocks_.push_back(std::make_unique_for_overwrite<uint64_t[]>(per_block * words_));
  std::memcpy(&blocks_.back()[count_ % per_block * words_], row.data(), row.size_bytes());
  by_hash_.emplace(hash, count_);
  return count_++;
}

uint32_t Rows::add_common(uint32_t left, uint32_t right) {
  if (left == right) return left;
  const std::span<const uint64_t> first = (*this)[left];
  const std::span<const uint64_t> second = (*this)[right];
  common_.resize(words_);
  for (size_t at = 0; at < words_; ++at) common_[at] = first[at] & second[at];
  return add(common_);
}

Sweep::Sweep(Rows& rows, const Words& base, std::span<const Group> groups)
    : rows_(rows),
      base_(base),
      groups_(groups),
      words_(std::max<size_t>(1, (groups.size() + 63) / 64)),
      seen_(words_, std::numeric_limits<size_t>::max()) {}

uint32_t Sweep::row_of(std::span<const uint64_t> active) {
  const uint32_t number = seen_.add(active);
  if (number < row_of_seen_.size()) return row_of_seen_[number];
  Words row = base_;
  for (size_t at = 0; at < words_; ++at) {
    for (uint64_t word = active[at]; word != 0; word &= word - 1) {
      const size_t group = at * 64 + static_cast<size_t>(std::countr_zero(word));
      for (const uint32_t rule : groups_[group].rules) set_bit(row, rule);
    }
  }
  row_of_seen_.push_back(rows_.add(row));
  return row_of_seen_.back();
}

std::vector<Boundary> Sweep::boundaries() {
  struct Change {
    Address at;
    uint32_t group;
  };
  std::vector<Change> changes;
  for (uint32_t group = 0; group < groups_.size(); ++group) {
    for (const Interval& interval : groups_[group].intervals) {
      changes.push_back({interval.first, group});
      Address behind = interval.last;
      if (++behind.low == 0) ++behind.high;
      if (behind != Address{}) changes.push_back({behind, group});  // else it goes to the end
    }
  }
  std::ranges::sort(changes, {}, &Change::at);

  Words active(words_);
  std::vector<Boundary> all{{.first = {}, .row = 0}};
  size_t next = 0;
  for (;;) {
    // A group's intervals do not touch: each change of it turns its bit over.
    for (; next < changes.size() && changes[next].at == all.back().first; ++next)
      active[changes[next].group / 64] ^= uint64_t{1} << changes[next].group % 64;
    all.back().row = row_of(active);
    if (all.size() > 1 && all[all.size() - 2].row == all.back().row) all.pop_back();
    if (next == changes.size()) return all;
    all.push_back({.first = changes[next].at, .row = 0});
  }
}

}  // namespace netkit_bpf::firewall
