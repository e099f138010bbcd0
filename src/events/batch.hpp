// SPDX-License-Identifier: MIT
// Packet events in one piece of memory, one row each.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "events/row.hpp"

namespace netkit_bpf {

// Rows that never change, and the packets' first bytes if the monitor keeps them. Copies and slices share their memory,
// which lives as long as one of them.
class EventBatch {
 public:
  using Names = std::shared_ptr<const std::vector<std::string>>;  // the pairs', by number
  using Data = std::span<const std::byte>;                        // of one packet

  struct Input {
    std::span<std::byte> records;  // a run of them
    int64_t clock_offset_ns = 0;
  };
  // The first record that cannot be a row, because its size, pair or side is invalid. The batch ends before it.
  struct Refused {
    std::string why;   // empty: there is none
    size_t input = 0;  // its number
    size_t start = 0;  // offset of the record in it, in bytes
    size_t end = 0;
  };

  // Makes rows from the records in place, in memory that `owner` keeps. They have no data.
  EventBatch(Input input, const std::shared_ptr<const void>& owner, Names names, Refused& refused);
  // Copies the records of some runs.
  EventBatch(std::span<const Input> inputs, bool with_data, Names names, Refused& refused);

  // Copies rows from the bytes() of another batch, and the data of each, if any.
  static EventBatch from_rows(std::span<const std::byte> rows, std::optional<std::span<const Data>> data, Names names);
  // Joins batches. Pairs with the same name become one.
  static EventBatch concat(std::span<const EventBatch> parts);

  [[nodiscard]] size_t size() const noexcept { return size_; }
  [[nodiscard]] const Names& names() const noexcept { return names_; }
  [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return {rows_.get(), size_ * sizeof(Row)}; }
  [[nodiscard]] const Row& operator[](size_t index) const noexcept {
    return reinterpret_cast<const Row*>(rows_.get())[index];
  }
  [[nodiscard]] bool has_data() const noexcept { return packets_ != nullptr; }
  [[nodiscard]] Data data(size_t index) const noexcept { return packets_ ? packets_->data[first_ + index] : Data(); }

  // Rows first, first + step, …: without a copy if step is 1.
  [[nodiscard]] EventBatch slice(size_t first, ptrdiff_t step, size_t size) const;
  // A copy of the rows whose byte in the mask is not zero. The mask has a byte for each row.
  [[nodiscard]] EventBatch select(std::span<const std::byte> mask) const;

  bool operator==(const EventBatch& other) const;

 private:
  struct Packets {
    std::vector<Data> data;
    std::vector<std::shared_ptr<const void>> owners;
  };

  EventBatch() = default;
  // Copies the rows that `index_of` selects; their data is shared.
  template <typename IndexOf>
  [[nodiscard]] EventBatch copy(size_t size, IndexOf index_of) const;

  std::shared_ptr<const std::byte> rows_;
  size_t size_ = 0;
  std::shared_ptr<const Packets> packets_;  // null: without data
  size_t first_ = 0;                        // of the packets
  Names names_;
};

}  // namespace netkit_bpf
