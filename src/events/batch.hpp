// SPDX-License-Identifier: MIT
// Packet events in one piece of memory, a row each: a table that numpy reads where it lies.
#pragma once

#include <netkit_bpf/event.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "ring/ring.hpp"

namespace netkit_bpf {

// An event with each field by itself; one that does not apply is zero, and the flags (enum nk_flags) say which do.
// A row is as large as the record with the ring's header, so that a block becomes rows in place.
struct Row {
  uint8_t family;  // 4, 6 or 0
  uint8_t traffic_class;
  uint8_t icmp_type;
  uint8_t icmp_code;
  uint16_t vlan_id;
  uint8_t fragment_more;  // 0 or 1
  uint8_t unused;
  int64_t timestamp_ns;  // Unix time
  uint8_t src[16];       // network byte order; IPv4 takes the first four bytes
  uint8_t dst[16];
  uint32_t length;
  uint32_t payload_len;
  uint32_t flow_label;
  uint16_t src_port;
  uint16_t dst_port;
  uint16_t gso_segs;  // 1 at least
  uint16_t ethertype;
  uint16_t fragment_offset;
  uint16_t vlan_tci;
  uint8_t next_header;
  uint8_t protocol;
  uint8_t hop_limit;
  uint8_t tcp_flags;
  uint8_t side;
  uint8_t flags;
  uint16_t pair;
};
static_assert(sizeof(Row) == Record::header_size + sizeof(nk_event));

// The record that a row was made of; the timestamp stays Unix time.
nk_event to_event(const Row& row);

// Rows that never change, and the packets' first bytes if the monitor keeps them. Copies and slices share their memory,
// which lives as long as one of them.
class Batch {
 public:
  using Names = std::shared_ptr<const std::vector<std::string>>;  // the pairs', by number
  using Data = std::span<const std::byte>;                        // of one packet

  struct Run {
    std::span<std::byte> records;  // with their headers
    int64_t clock_offset_ns = 0;
  };

  // These throw std::invalid_argument if a record has a size, a pair or a side that there is not.
  //
  // Makes rows of the records where they lie, in memory that `owner` keeps. They are without data.
  Batch(Run run, const std::shared_ptr<const void>& owner, Names names);
  // Copies the records of some runs.
  Batch(std::span<const Run> runs, bool with_data, Names names);

  // Copies rows that another batch gave as bytes(), and the data of each, or none.
  static Batch from_rows(std::span<const std::byte> rows, std::optional<std::span<const Data>> data, Names names);
  // Batches end to end. Their pairs are told apart by name.
  static Batch concat(std::span<const Batch> parts);

  [[nodiscard]] size_t size() const noexcept { return size_; }
  [[nodiscard]] const Names& names() const noexcept { return names_; }
  [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return {rows_.get(), size_ * sizeof(Row)}; }
  [[nodiscard]] const Row& operator[](size_t index) const noexcept {
    return reinterpret_cast<const Row*>(rows_.get())[index];
  }
  [[nodiscard]] bool has_data() const noexcept { return packets_ != nullptr; }
  [[nodiscard]] Data data(size_t index) const noexcept { return packets_ ? packets_->data[first_ + index] : Data(); }

  // Rows first, first + step, …: without a copy if step is 1.
  [[nodiscard]] Batch slice(size_t first, ptrdiff_t step, size_t size) const;
  // A copy of the rows whose byte in the mask is not zero. The mask has a byte for each row.
  [[nodiscard]] Batch select(std::span<const std::byte> mask) const;

  bool operator==(const Batch& other) const;

 private:
  struct Packets {
    std::vector<Data> data;
    std::vector<std::shared_ptr<const void>> owners;
  };

  Batch() = default;
  // The rows that `index_of` names, and their data in the memory where it is.
  template <typename IndexOf>
  [[nodiscard]] Batch copy(size_t size, IndexOf index_of) const;

  std::shared_ptr<const std::byte> rows_;
  size_t size_ = 0;
  std::shared_ptr<const Packets> packets_;  // null: without data
  size_t first_ = 0;                        // of the packets
  Names names_;
};

}  // namespace netkit_bpf
