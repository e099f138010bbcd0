// SPDX-License-Identifier: MIT
// Flows as a table.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "flows/flow_row.hpp"

namespace netkit_bpf {

struct FlowNetwork {
  std::array<uint8_t, 16> address{};
  uint8_t family = 0;
  uint8_t bits = 0;
};

// What a table is grouped by: fields, and how many bits of the addresses, of IPv4 and of IPv6.
struct FlowGrouping {
  uint16_t known = 0;  // FlowKnown
  // Where there are some, the number of the first one that holds an address stands in its place, little-endian; it is
  // not known where none does.
  std::vector<FlowNetwork> networks;
  std::array<uint8_t, 2> src_bits{32, 128};
  std::array<uint8_t, 2> dst_bits{32, 128};
};

// Immutable; any thread may use it. Copies share the rows.
class FlowTable {
 public:
  using Names = std::shared_ptr<const std::vector<std::string>>;

  FlowTable(std::vector<FlowRow> rows, Names names)
      : rows_(std::make_shared<const std::vector<FlowRow>>(std::move(rows))), names_(std::move(names)) {}

  [[nodiscard]] size_t size() const noexcept { return rows_->size(); }
  [[nodiscard]] const FlowRow& operator[](size_t row) const noexcept { return (*rows_)[row]; }
  [[nodiscard]] std::span<const FlowRow> rows() const noexcept { return *rows_; }
  // Of the pairs, by their numbers.
  [[nodiscard]] const Names& names() const noexcept { return names_; }

  // All rows in one.
  [[nodiscard]] FlowRow total() const;
  // A row for each value that the fields have.
  [[nodiscard]] FlowTable by(const FlowGrouping& grouping) const;
  // What was counted since an earlier table of the same flows, in the rows that it came to.
  [[nodiscard]] FlowTable since(const FlowTable& earlier) const;
  // The rows that another table has too, in its order.
  [[nodiscard]] FlowTable matching(const FlowTable& other) const;
  // The rows with the most of a field, which is a number, the most first.
  [[nodiscard]] FlowTable top(size_t count, const FlowField& field) const;
  [[nodiscard]] FlowTable slice(size_t first, ptrdiff_t step, size_t size) const;

 private:
  std::shared_ptr<const std::vector<FlowRow>> rows_;
  Names names_;
};

}  // namespace netkit_bpf
