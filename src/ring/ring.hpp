// SPDX-License-Identifier: MIT
// The consumer's end of a BPF ring buffer (Documentation/bpf/ringbuf.rst, kernel/bpf/ringbuf.c).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/mapping.hpp"
#include "ring/block.hpp"
#include "ring/claim.hpp"
#include "ring/records.hpp"

struct bpf_map_info;

namespace netkit_bpf {

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

// One consumer at a time. Another program that maps the ring buffer can move the consumer's position: then the kernel
// overwrites what is not read yet. So positions and lengths are never believed further than the mapping goes.
class Ring {
 public:
  // Maps the ring buffer, whose descriptor stays the caller's. Throws std::invalid_argument if this process reads it
  // already, or if it is of a kind that cannot be read.
  explicit Ring(int fd);

  // The bytes that the next record takes in a block; 0 if none is committed.
  [[nodiscard]] size_t next_size() const;

  // Copies committed records, headers included, behind what `block` holds: whole records up to about
  // `limit` bytes, one at least if there is one that fits. Returns the bytes.
  //
  // Frees their room in the ring, except that of the last: as long as the kernel sees a record that was not
  // consumed it wakes nobody, and waking costs the packet's path microseconds. Call release() before sleep.
  //
  // Throws Error, and copies nothing, once another program has moved the consumer's position.
  size_t drain(Block& block, size_t limit, const SourceField& field);
  // Frees the room of all that was drained. From then on the next record wakes whoever polls the ring;
  // whoever sleeps looks at next_size() in between.
  void release();
  // Ends the reading: what was drained is freed, and from then on somebody else may read the ring. Idempotent.
  void leave();

  // Bytes that wait, records not committed yet included.
  [[nodiscard]] size_t fill() const;

  // Committed records that wait, in place.
  struct Waiting {
    std::span<const std::byte> run;  // valid until they are drained or skipped
    size_t last = 0;                 // bytes of the last one
  };
  // Whole records up to about `limit` bytes. Throws what check() throws.
  [[nodiscard]] Waiting waiting(size_t limit) const;
  // Throws Error once another program has moved the consumer's position.
  void check() const;
  // Goes on behind the first `length` bytes that wait, whole records of which the last takes `last`. Frees their
  // room as drain() does.
  void skip(size_t length, size_t last);

  [[nodiscard]] int fd() const noexcept { return fd_; }
  [[nodiscard]] size_t size() const noexcept { return size_; }

 private:
  Ring(int fd, const bpf_map_info& info);

  void publish(unsigned long position);
  [[noreturn]] void refuse() const;
  [[nodiscard]] const std::byte* at(unsigned long position) const { return data_ + (position & (size_ - 1)); }

  int fd_;
  size_t size_;
  std::string name_;
  RingClaim claim_;
  Mapping consumer_page_;
  Mapping producer_pages_;
  unsigned long* consumer_position_;
  const unsigned long* producer_position_;
  const std::byte* data_;   // mapped twice in a row: no record is cut at the end
  unsigned long position_;  // of what to read next; the kernel is told later
  bool left_ = false;
};

}  // namespace netkit_bpf
