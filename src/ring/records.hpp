// SPDX-License-Identifier: MIT
// The records of a BPF ring buffer as they lie in memory (Documentation/bpf/ringbuf.rst, kernel/bpf/ringbuf.c), and the
// one walk over them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <span>
#include <utility>

namespace netkit_bpf {

// An 8-byte header, the data, padding to 8 bytes.
struct Record {
  static constexpr uint32_t busy_bit = 1U << 31;     // BPF_RINGBUF_BUSY_BIT: not committed yet
  static constexpr uint32_t discard_bit = 1U << 30;  // BPF_RINGBUF_DISCARD_BIT: reserved, then dropped
  static constexpr size_t header_size = 8;

  static constexpr size_t length(uint32_t header) { return header & ~(busy_bit | discard_bit); }
  static constexpr size_t stride(uint32_t header) { return (length(header) + header_size + 7) & ~size_t{7}; }

  const std::byte* start = nullptr;
  uint32_t header = 0;

  [[nodiscard]] std::span<const std::byte> data() const { return {start + header_size, length(header)}; }
  [[nodiscard]] size_t stride() const { return stride(header); }
  [[nodiscard]] const std::byte* end() const { return start + stride(); }
};

// The records of a run; a run is whole records one behind the other. Discarded ones are skipped. Each header is read
// only once, and one that points beyond the end of the run ends the walk: if another program reads the ring too, the
// kernel may overwrite what was examined.
class Records {
 public:
  class Iterator {
   public:
    using value_type = Record;
    using difference_type = ptrdiff_t;

    Iterator() = default;
    Iterator(const std::byte* start, const std::byte* end) : record_{start, 0}, end_(end) { settle(); }

    const Record& operator*() const { return record_; }
    const Record* operator->() const { return &record_; }
    Iterator& operator++() {
      record_.start = record_.end();
      settle();
      return *this;
    }
    void operator++(int) { ++*this; }
    bool operator==(std::default_sentinel_t) const { return record_.start == end_; }
    // After the walk: the start of a record that extends beyond the end; null if there is none.
    [[nodiscard]] const std::byte* cut() const { return cut_; }

   private:
    void settle() {
      for (; record_.start != end_; record_.start = record_.end()) {
        const auto left = static_cast<size_t>(end_ - record_.start);
        if (left >= Record::header_size) std::memcpy(&record_.header, record_.start, sizeof(record_.header));
        if (left < Record::header_size || record_.stride() > left) {
          cut_ = std::exchange(record_.start, end_);
          return;
        }
        if ((record_.header & Record::discard_bit) == 0) return;
      }
    }

    Record record_;
    const std::byte* end_ = nullptr;
    const std::byte* cut_ = nullptr;
  };

  explicit Records(std::span<const std::byte> run) : run_(run) {}

  [[nodiscard]] Iterator begin() const { return {run_.data(), run_.data() + run_.size()}; }
  [[nodiscard]] static std::default_sentinel_t end() { return {}; }

 private:
  std::span<const std::byte> run_;
};

}  // namespace netkit_bpf
