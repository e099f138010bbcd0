// SPDX-License-Identifier: MIT
#include "firewall/tables.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <stdexcept>
#include <utility>

namespace netkit_bpf::firewall {

namespace {

constexpr uint32_t roots = 65536;

size_t aligned(size_t size, size_t to) { return (size + to - 1) / to * to; }

}  // namespace

// With one group a row is that group.
TableWriter::TableWriter(const Rows& rows, const Shape& shape)
    : rows_(rows),
      shape_(shape),
      stride_(shape.summary == 0
                  ? shape.group * sizeof(uint64_t)
                  : shape.summary * sizeof(uint64_t) + aligned(shape.groups * sizeof(uint32_t), sizeof(uint64_t))) {}

void TableWriter::use(std::span<const uint32_t> rows) {
  for (const uint32_t row : rows) {
    if (places_.emplace(row, static_cast<uint32_t>(used_.size() * stride_)).second) used_.push_back(row);
  }
}

void TableWriter::use(const Numbers& numbers) {
  if (numbers.merged.empty()) use(numbers.classes.rows());
}

void TableWriter::use(std::span<const Boundary> boundaries) {
  for (const Boundary& each : boundaries) use({&each.row, 1});
}

uint32_t TableWriter::write(const void* data, size_t size) {
  bytes_.resize((bytes_.size() + 15) / 16 * 16);
  const size_t offset = bytes_.size();
  if (offset + size > NK_FW_MAX_SIZE) throw std::length_error("more than 256 MiB of tables");
  const auto* from = static_cast<const uint8_t*>(data);
  bytes_.insert(bytes_.end(), from, from + size);
  return static_cast<uint32_t>(offset);
}

uint32_t TableWriter::write_places(std::span<const uint32_t> rows) {
  std::vector<uint32_t> places;
  for (const uint32_t row : rows) places.push_back(place(row));
  return write(places);
}

void TableWriter::write_rows() {
  constexpr size_t cache_line = 64;
  constexpr size_t others = 2 << 20;  // about what the other tables take
  const size_t group_size = shape_.group * sizeof(uint64_t);
  const size_t groups_at = aligned(used_.size() * stride_, cache_line);
  const size_t size = groups_at + (shape_.summary == 0 ? 0 : rows_.group_count() * group_size);
  if (size > NK_FW_MAX_SIZE) throw std::length_error("more than 256 MiB of rows");
  bytes_.reserve(size + others);
  bytes_.resize(size);
  std::vector<uint64_t> summary(shape_.summary);
  std::vector<uint32_t> places(shape_.groups);
  for (size_t at = 0; at < used_.size(); ++at) {
    const std::span<const uint32_t> groups = rows_.groups_of(used_[at]);
    uint8_t* to = &bytes_[at * stride_];
    if (shape_.summary == 0) {
      std::memcpy(to, rows_.words_of(groups.front()).data(), group_size);
      continue;
    }
    std::ranges::fill(summary, 0);
    for (size_t group = 0; group < groups.size(); ++group) {
      if (groups[group] != Rows::empty_group) summary[group / 64] |= uint64_t{1} << group % 64;
      places[group] = static_cast<uint32_t>(groups_at + groups[group] * group_size);
    }
    std::memcpy(to, summary.data(), summary.size() * sizeof(uint64_t));
    std::memcpy(to + summary.size() * sizeof(uint64_t), places.data(), places.size() * sizeof(uint32_t));
  }
  if (shape_.summary == 0) return;
  for (uint32_t group = 0; group < rows_.group_count(); ++group)
    std::memcpy(&bytes_[groups_at + group * group_size], rows_.words_of(group).data(), group_size);
}

void TableWriter::write_numbers(const Numbers& numbers, nk_fw_numbers& layout) {
  if (numbers.table.empty()) return;
  layout.classes = static_cast<uint32_t>(numbers.classes.size());
  layout.table = write(numbers.table);
  layout.absent = numbers.absent;
  if (!numbers.merged.empty())
    layout.merged = write(numbers.merged);
  else
    layout.rows = write_places(numbers.classes.rows());
}

// A root entry for each of the first 16 bits, and the boundaries among the addresses that share them: a power of two of
// them, the last one repeated, so that the search needs no end.
void TableWriter::write_addresses(std::span<const Boundary> boundaries, bool is_ipv6, nk_fw_addresses& layout) {
  if (boundaries.size() == 1) {
    layout.rows = place(boundaries[0].row);
    return;
  }
  const auto root_of = [is_ipv6](const Address& address) {
    return static_cast<uint32_t>(is_ipv6 ? address.high >> 48 : address.low >> 16);
  };
  std::vector<uint32_t> root(roots);
  std::vector<uint16_t> low;
  std::vector<nk_fw_bound> bounds;
  std::vector<uint32_t> rows;
  std::unordered_map<uint32_t, uint32_t> whole;  // by row, the position of a root entry without boundaries
  size_t next = 0;
  uint32_t row = boundaries[0].row;
  for (uint32_t entry = 0; entry < roots; ++entry) {
    const size_t first = next;
    while (next < boundaries.size() && root_of(boundaries[next].first) == entry) ++next;
    const Address start =
        is_ipv6 ? Address{.high = uint64_t{entry} << 48, .low = 0} : Address{.high = 0, .low = uint64_t{entry} << 16};
    const bool begins_here = first < next && boundaries[first].first == start;
    const size_t inside = next - first + (begins_here ? 0 : 1);
    const auto position = static_cast<uint32_t>(rows.size());
    if (inside == 1) {
      if (begins_here) row = boundaries[first].row;
      const auto [found, is_new] = whole.emplace(row, position);
      root[entry] = found->second;
      if (!is_new) continue;
    }
    const size_t slots = std::bit_ceil(inside);
    const auto steps = static_cast<uint32_t>(std::countr_zero(slots));
    if (steps > NK_FW_STEPS || rows.size() + slots >= 1U << NK_FW_POSITION)
      throw std::length_error("more than a million boundaries of addresses that share 16 bits");
    if (inside > 1) root[entry] = position | steps << NK_FW_POSITION;
    const auto add = [&](const Address& from, uint32_t of) {
      if (is_ipv6)
        bounds.push_back({.high = from.high, .low = from.low});
      else
        low.push_back(static_cast<uint16_t>(from.low));
      rows.push_back(place(of));
    };
    if (!begins_here) add(start, row);
    for (size_t at = first; at < next; ++at) {
      row = boundaries[at].row;
      add(boundaries[at].first, row);
    }
    const Address end{.high = ~uint64_t{0}, .low = ~uint64_t{0}};
    for (size_t at = inside; at < slots; ++at) add(end, row);
  }
  layout.root = write(root);
  layout.bounds = is_ipv6 ? write(bounds) : write(low);
  layout.rows = write(rows);
}

Tables TableWriter::finish(nk_fw_layout layout) {
  constexpr size_t widest = NK_FW_GROUP * sizeof(uint64_t);  // bytes that are read at once
  layout.last = static_cast<uint32_t>(bytes_.size());
  bytes_.resize((bytes_.size() + widest + 7) / 8 * 8);
  return {.layout = layout, .bytes = std::move(bytes_)};
}

}  // namespace netkit_bpf::firewall
