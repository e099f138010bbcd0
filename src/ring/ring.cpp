// SPDX-License-Identifier: MIT
#include "ring/ring.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <string>

#include "base/error.hpp"

namespace netkit_bpf {

namespace {

// Headers are walked, then the records copied, in stretches so short that memcpy() does not turn to "rep movs", which
// starts slowly. The walk fetches ahead, so that the copy does not keep memory waiting: the two take hardly longer than
// touching each line of the ring once.
constexpr size_t stretch = 2 << 10;
constexpr size_t ahead = 8 << 10;

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

// Committed records that follow each other and have one header.
struct Run {
  size_t length = 0;  // bytes
  uint32_t header = 0;
};

// The run that begins at `start`: of at most `limit` bytes, but one record at least if it is committed.
Run find_run(const std::byte* start, size_t there, size_t limit) {
  if (there == 0) return {};
  const uint32_t header = load_header(start);
  if ((header & Record::busy_bit) != 0) return {};
  const size_t stride = Record::stride(header);
  // Where the next header is depends on no load: the processor runs ahead.
  size_t length = stride;
  const size_t end = std::min(there, limit);
  while (length + stride <= end && load_header(start + length) == header) {
    __builtin_prefetch(start + length + ahead);
    length += stride;
  }
  return {length, header};
}

}  // namespace

size_t SourceField::count(std::span<const std::byte> run, std::span<uint64_t> counts) const {
  size_t records = 0;
  for (size_t at = 0; at < run.size();) {
    uint32_t header = 0;
    std::memcpy(&header, &run[at], sizeof(header));
    const size_t stride = Record::stride(header);
    if ((header & Record::discard_bit) == 0) records += count_alike(run.subspan(at, stride), header, counts);
    at += stride;
  }
  return records;
}

size_t SourceField::count_alike(std::span<const std::byte> run, uint32_t header, std::span<uint64_t> counts) const {
  const size_t stride = Record::stride(header);
  const size_t records = run.size() / stride;
  if (sources == 1 || offset >= Record::length(header)) {
    counts[0] += records;
    return records;
  }
  const std::byte* source = run.data() + Record::header_size + offset;
  if (sources == 2) {  // a sum waits for no store
    uint64_t second = 0;
    for (size_t i = 0; i < records; ++i) second += source[i * stride] != std::byte{0} ? 1 : 0;
    counts[0] += records - second;
    counts[1] += second;
    return records;
  }
  for (size_t i = 0; i < records; ++i) ++counts[std::min(static_cast<size_t>(source[i * stride]), sources - 1)];
  return records;
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
  position_ = *consumer_position_;  // this end alone writes it
}

size_t Ring::next_size() const {
  return find_run(at(position_), load_position(producer_position_) - position_, 0).length;
}

size_t Ring::drain(Block& block, size_t limit, const SourceField& field) {
  const unsigned long start = position_;
  const unsigned long end = load_position(producer_position_);
  const size_t room = block.room();
  limit = std::min(limit, room);
  unsigned long last = start;
  while (position_ - start < limit) {
    const size_t left = limit - (position_ - start);
    const Run run = find_run(at(position_), end - position_, std::min(left, stretch));
    if (run.length == 0 || run.length > room - (position_ - start)) break;
    if (run.length > left && position_ != start) break;
    std::byte* copy = block.memory.start() + block.used;
    std::memcpy(copy, at(position_), run.length);
    const bool discarded = (run.header & Record::discard_bit) != 0;
    const size_t stride = Record::stride(run.header);
    block.stride = !discarded && (block.used == 0 || block.stride == stride) ? stride : 0;
    if (!discarded) block.records += field.count_alike({copy, run.length}, run.header, block.counts);
    block.used += run.length;
    position_ += run.length;
    last = position_ - stride;
  }
  if (position_ == start) return 0;
  publish(last);
  return position_ - start;
}

void Ring::skip(size_t length, size_t last) {
  position_ += length;
  publish(position_ - last);
}

// Tells the kernel what was read.
void Ring::publish(unsigned long position) {
  std::atomic_ref(*consumer_position_).store(position, std::memory_order_release);
}

void Ring::release() {
  publish(position_);
  // The kernel wakes nobody for a record it commits while it sees an old position: whoever looks once
  // more before sleeping must not look before the position is out.
  std::atomic_thread_fence(std::memory_order_seq_cst);
}

size_t Ring::fill() const { return load_position(producer_position_) - position_; }

Ring::Waiting Ring::waiting(size_t limit) const {
  const unsigned long end = load_position(producer_position_);
  unsigned long up_to = position_;
  size_t last = 0;
  while (up_to - position_ < limit) {
    const Run run = find_run(at(up_to), end - up_to, limit - (up_to - position_));
    if (run.length == 0) break;
    up_to += run.length;
    last = Record::stride(run.header);
  }
  return {{at(position_), up_to - position_}, last};
}

}  // namespace netkit_bpf
