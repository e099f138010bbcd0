// SPDX-License-Identifier: MIT
#include "ring.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>

#include "error.hpp"

namespace netkit_bpf {

namespace {

uint32_t load_header(const std::byte* record) {
  return std::atomic_ref(*const_cast<uint32_t*>(reinterpret_cast<const uint32_t*>(record)))
      .load(std::memory_order_acquire);
}

unsigned long load_position(const unsigned long* position) {
  return std::atomic_ref(*const_cast<unsigned long*>(position)).load(std::memory_order_acquire);
}

void* map_pages(int fd, size_t length, int protection, size_t offset) {
  void* start = ::mmap(nullptr, length, protection, MAP_SHARED, fd, static_cast<off_t>(offset));
  if (start == MAP_FAILED) throw Error(errno, "map a ring buffer of " + std::to_string(length) + " bytes");
  return start;
}

}  // namespace

void each_record(std::span<const std::byte> run, const std::function<void(std::span<const std::byte>)>& f) {
  for (size_t at = 0; at < run.size();) {
    uint32_t header = 0;
    std::memcpy(&header, &run[at], sizeof(header));
    if ((header & Record::discard_bit) == 0)
      f(run.subspan(at + Record::header_size, header & ~(Record::busy_bit | Record::discard_bit)));
    at += Record::stride(header);
  }
}

void Ring::Unmap::operator()(void* start) const noexcept { ::munmap(start, length); }

Ring::Ring(int fd, size_t size)
    : fd_(fd),
      size_(size),
      consumer_page_(nullptr, Unmap{static_cast<size_t>(::getpagesize())}),
      producer_pages_(nullptr, Unmap{static_cast<size_t>(::getpagesize()) + 2 * size}) {
  const size_t page = consumer_page_.get_deleter().length;
  consumer_page_.reset(map_pages(fd, page, PROT_READ | PROT_WRITE, 0));
  producer_pages_.reset(map_pages(fd, producer_pages_.get_deleter().length, PROT_READ, page));
  consumer_position_ = static_cast<unsigned long*>(consumer_page_.get());
  producer_position_ = static_cast<const unsigned long*>(producer_pages_.get());
  data_ = static_cast<const std::byte*>(producer_pages_.get()) + page;
}

size_t Ring::run_length(unsigned long from, size_t limit) const {
  const unsigned long end = load_position(producer_position_);
  unsigned long at = from;
  while (at < end) {
    const uint32_t header = load_header(data_ + (at & (size_ - 1)));
    if ((header & Record::busy_bit) != 0) break;
    const size_t stride = Record::stride(header);
    if (at != from && at - from + stride > limit) break;
    at += stride;
  }
  return at - from;
}

size_t Ring::drain(std::vector<std::byte>& block, size_t limit) {
  const unsigned long from = *consumer_position_;  // this end alone writes it
  const size_t length = run_length(from, limit);
  if (length == 0) return 0;
  const std::byte* start = data_ + (from & (size_ - 1));
  block.insert(block.end(), start, start + length);
  std::atomic_ref(*consumer_position_).store(from + length, std::memory_order_release);
  // The kernel wakes nobody for a record it commits while it sees an old position: whoever looks once
  // more before sleeping must not look before the position is out.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  return length;
}

size_t Ring::fill() const { return load_position(producer_position_) - *consumer_position_; }

std::span<const std::byte> Ring::waiting() const {
  const unsigned long from = *consumer_position_;
  return {data_ + (from & (size_ - 1)), run_length(from, size_)};
}

}  // namespace netkit_bpf
