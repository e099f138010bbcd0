// SPDX-License-Identifier: MIT
// The consumer's end of a BPF ring buffer (Documentation/bpf/ringbuf.rst, kernel/bpf/ringbuf.c).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "ring/block.hpp"

namespace netkit_bpf {

// One record in a run of records: an 8-byte header, the data, padding to 8 bytes.
struct Record {
  static constexpr uint32_t busy_bit = 1U << 31;     // BPF_RINGBUF_BUSY_BIT: not committed yet
  static constexpr uint32_t discard_bit = 1U << 30;  // BPF_RINGBUF_DISCARD_BIT: reserved, then dropped
  static constexpr size_t header_size = 8;

  static constexpr size_t length(uint32_t header) { return header & ~(busy_bit | discard_bit); }
  static constexpr size_t stride(uint32_t header) { return (length(header) + header_size + 7) & ~size_t{7}; }
};

// What tells records of several sources apart: a byte at `offset` of the data, below `sources`.
struct SourceField {
  size_t sources = 1;
  size_t offset = 0;

  // Adds the records of a run that are no discarded ones to `counts`, which has one for each source; returns
  // how many they are. What names no source counts for the last.
  [[nodiscard]] size_t count(std::span<const std::byte> run, std::span<uint64_t> counts) const;
  // The same for a run of records that all have one header, of which none is discarded.
  [[nodiscard]] size_t count_alike(std::span<const std::byte> run, uint32_t header, std::span<uint64_t> counts) const;
};

// One consumer at a time.
class Ring {
 public:
  // Maps the ring buffer `fd`, whose max_entries is `size` bytes. The descriptor stays the caller's.
  Ring(int fd, size_t size);

  // The bytes that the next record takes in a block; 0 if none is committed.
  [[nodiscard]] size_t next_size() const;

  // Copies committed records, headers included, behind what `block` holds: whole records up to about
  // `limit` bytes, one at least if there is one that fits. Returns the bytes.
  //
  // Frees their room in the ring, except that of the last: as long as the kernel sees a record that was not
  // consumed it wakes nobody, and waking costs the packet's path microseconds. Call release() before sleep.
  size_t drain(Block& block, size_t limit, const SourceField& field);
  // Frees the room of all that was drained. From then on the next record wakes whoever polls the ring;
  // whoever sleeps looks at next_size() in between.
  void release();

  // Bytes that wait, records not committed yet included.
  [[nodiscard]] size_t fill() const;

  // Committed records that wait, in place.
  struct Waiting {
    std::span<const std::byte> run;  // valid until they are drained or skipped
    size_t last;                     // bytes of the last one
  };
  // Whole records up to about `limit` bytes.
  [[nodiscard]] Waiting waiting(size_t limit) const;
  // Goes on behind the first `length` bytes that wait, whole records of which the last takes `last`. Frees their
  // room as drain() does.
  void skip(size_t length, size_t last);

  [[nodiscard]] int fd() const noexcept { return fd_; }
  [[nodiscard]] size_t size() const noexcept { return size_; }

 private:
  struct Unmap {
    size_t length;
    void operator()(void* start) const noexcept;
  };
  using Mapping = std::unique_ptr<void, Unmap>;

  void publish(unsigned long position);
  [[nodiscard]] const std::byte* at(unsigned long position) const { return data_ + (position & (size_ - 1)); }

  int fd_;
  size_t size_;
  Mapping consumer_page_;
  Mapping producer_pages_;
  unsigned long* consumer_position_;
  const unsigned long* producer_position_;
  const std::byte* data_;   // mapped twice in a row: no record is cut at the end
  unsigned long position_;  // of what to read next; the kernel is told later
};

}  // namespace netkit_bpf
