// SPDX-License-Identifier: MIT
// The consumer's end of a BPF ring buffer (Documentation/bpf/ringbuf.rst, kernel/bpf/ringbuf.c).
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

namespace netkit_bpf {

// One record in a run of records: an 8-byte header, the data, padding to 8 bytes.
struct Record {
  static constexpr uint32_t busy_bit = 1U << 31;     // BPF_RINGBUF_BUSY_BIT: not committed yet
  static constexpr uint32_t discard_bit = 1U << 30;  // BPF_RINGBUF_DISCARD_BIT: reserved, then dropped
  static constexpr size_t header_size = 8;

  static constexpr size_t stride(uint32_t header) {
    const size_t length = header & ~(busy_bit | discard_bit);
    return (length + header_size + 7) & ~size_t{7};
  }
};

// Calls f(data) for each record of a run that is no discarded one.
void each_record(std::span<const std::byte> run, const std::function<void(std::span<const std::byte>)>& f);

// One consumer at a time.
class Ring {
 public:
  // Maps the ring buffer `fd`, whose max_entries is `size` bytes. The descriptor stays the caller's.
  Ring(int fd, size_t size);

  // Copies committed records, headers included, behind what `block` holds: whole records up to about
  // `limit` bytes, one at least if there is one. Then frees their room in the ring. Returns the bytes.
  size_t drain(std::vector<std::byte>& block, size_t limit);

  // Bytes that wait, records not committed yet included.
  [[nodiscard]] size_t fill() const;
  // The committed records that wait, in place: valid until the next drain.
  [[nodiscard]] std::span<const std::byte> waiting() const;

  [[nodiscard]] int fd() const noexcept { return fd_; }
  [[nodiscard]] size_t size() const noexcept { return size_; }

 private:
  struct Unmap {
    size_t length;
    void operator()(void* start) const noexcept;
  };
  using Mapping = std::unique_ptr<void, Unmap>;

  [[nodiscard]] size_t run_length(unsigned long from, size_t limit) const;

  int fd_;
  size_t size_;
  Mapping consumer_page_;
  Mapping producer_pages_;
  unsigned long* consumer_position_;
  const unsigned long* producer_position_;
  const std::byte* data_;  // mapped twice in a row: no record is cut at the end
};

}  // namespace netkit_bpf
