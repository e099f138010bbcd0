// SPDX-License-Identifier: MIT
// Rows of bits and what leads to them, written as <netkit_bpf/firewall.h> has them.
#pragma once

#include <netkit_bpf/firewall.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "firewall/rows.hpp"
#include "firewall/sweep.hpp"

namespace netkit_bpf::firewall {

struct Tables {
  nk_fw_layout layout{};
  std::vector<uint8_t> bytes;
};

// Rows as classes: numbers that begin with 0.
class Classes {
 public:
  uint32_t add(uint32_t row) {
    const auto [found, is_new] = classes_.emplace(row, static_cast<uint32_t>(rows_.size()));
    if (is_new) rows_.push_back(row);
    return found->second;
  }
  [[nodiscard]] const std::vector<uint32_t>& rows() const { return rows_; }
  [[nodiscard]] size_t size() const { return rows_.size(); }

 private:
  std::unordered_map<uint32_t, uint32_t> classes_;
  std::vector<uint32_t> rows_;
};

// The numbers of a property by class.
struct Numbers {
  std::vector<uint16_t> table;
  Classes classes;
  uint32_t absent = 0;
  std::vector<uint16_t> merged;
};

// Throws std::length_error where there would be too much.
class TableWriter {
 public:
  TableWriter(const Rows& rows, const Shape& shape);

  // What is written is named by offsets, so the rows, whose number shows last, come first: all that are used, and then
  // they are written.
  void use(std::span<const uint32_t> rows);
  void use(const Numbers& numbers);
  void use(std::span<const Boundary> boundaries);
  void write_rows();

  [[nodiscard]] uint32_t place(uint32_t row) const { return places_.at(row); }
  uint32_t write(const void* data, size_t size);
  template <typename Item>
  uint32_t write(const std::vector<Item>& items) {
    return write(items.data(), items.size() * sizeof(Item));
  }
  uint32_t write_places(std::span<const uint32_t> rows);
  void write_numbers(const Numbers& numbers, nk_fw_numbers& layout);
  void write_addresses(std::span<const Boundary> boundaries, bool is_ipv6, nk_fw_addresses& layout);

  // Ends the tables, of which the layout is the caller's but for its last offset.
  Tables finish(nk_fw_layout layout);

 private:
  const Rows& rows_;
  Shape shape_;
  std::vector<uint8_t> bytes_;
  std::unordered_map<uint32_t, uint32_t> places_;
  std::vector<uint32_t> used_;
  size_t stride_;  // bytes of a row
};

}  // namespace netkit_bpf::firewall
