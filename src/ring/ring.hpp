// SPDX-License-Identifier: MIT
// The consumer's end of a BPF ring buffer (Documentation/bpf/ringbuf.rst, kernel/bpf/ringbuf.c).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/mapping.hpp"
#include "ring/block.hpp"
#include "ring/claim.hpp"
#include "ring/records.hpp"

struct bpf_map_info;

namespace netkit_bpf {

// The fields that distinguish the sources of records: a byte at `offset` of the data, below `sources`; and, where there
// are several groups of sources, 16 bits at `group_offset`, below `groups`.
struct SourceField {
  size_t sources = 1;
  size_t offset = 0;
  size_t groups = 1;
  size_t group_offset = 0;

  [[nodiscard]] size_t all() const noexcept { return groups * sources; }

  // Adds the records of a run, except discarded ones, to `counts`, which grows to one count per group and source;
  // returns their number. Records with an invalid source or group count for the last one.
  [[nodiscard]] size_t count(std::span<const std::byte> run, std::vector<uint64_t>& counts) const;
  // The same for a run of records that all have one header, of which none is discarded.
  [[nodiscard]] size_t count_alike(std::span<const std::byte> run, uint32_t header,
                                   std::vector<uint64_t>& counts) const;

 private:
  void count_groups(std::span<const std::byte> run, size_t stride, std::vector<uint64_t>& counts) const;
};

// One consumer at a time. Another program that maps the ring buffer can move the consumer's position: then the kernel
// overwrites unread records. So positions and lengths are never trusted beyond the mapping.
class Ring {
 public:
  // Maps the ring buffer, whose descriptor stays the caller's. Throws std::invalid_argument if this process reads it
  // already, or if it cannot be read.
  explicit Ring(int fd);

  // The bytes that the next record takes in a block; 0 if none is committed.
  [[nodiscard]] size_t next_size() const;

  // Appends committed records, headers included, to `block`: whole records up to about `limit` bytes, and at least one
  // if it fits. Returns the number of bytes.
  //
  // Frees their room in the ring, except that of the last one: as long as the kernel sees an unconsumed record it sends
  // no wake-up, which would cost the packet's path microseconds. Call release() before sleeping.
  //
  // Throws Error, and copies nothing, once another program has moved the consumer's position.
  size_t drain(Block& block, size_t limit, const SourceField& field);
  // Frees the room of all that was drained. From then on the next record wakes the poller of the ring, which must check
  // next_size() before it sleeps.
  void release();
  // Ends the reading: frees what was drained; after that another reader may read the ring. Idempotent.
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
  // Skips the first `length` waiting bytes: whole records, the last of which takes `last` bytes. Frees their room as
  // drain() does.
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
  unsigned long position_;  // of the next record to read; published later
  bool left_ = false;
};

}  // namespace netkit_bpf
