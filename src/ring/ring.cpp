// SPDX-License-Identifier: MIT
#include "ring/ring.hpp"

#include <bpf/bpf.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <utility>

#include "base/error.hpp"

namespace netkit_bpf {

namespace {

// Headers are walked, then the records copied, in stretches so short that memcpy() does not use "rep movs", which
// starts slowly. The walk prefetches for the copy: both together take hardly longer than touching each line of the ring
// once.
constexpr size_t stretch = 2 << 10;
constexpr size_t ahead = 8 << 10;

constexpr uint32_t overwrite_flag = 1U << 19;  // BPF_F_RB_OVERWRITE, Linux 6.19

uint32_t load_header(const std::byte* record) {
  return std::atomic_ref(*const_cast<uint32_t*>(reinterpret_cast<const uint32_t*>(record)))
      .load(std::memory_order_acquire);
}

unsigned long load_position(const unsigned long* position) {
  return std::atomic_ref(*const_cast<unsigned long*>(position)).load(std::memory_order_acquire);
}

bpf_map_info info_of(int fd) {
  bpf_map_info info{};
  uint32_t size = sizeof(info);
  if (bpf_map_get_info_by_fd(fd, &info, &size) != 0) throw Error(errno, "ask what a ring buffer is");
  const std::string name(&info.name[0]);
  if (info.type != BPF_MAP_TYPE_RINGBUF) throw std::invalid_argument("map '" + name + "' is not a ring buffer");
  // The kernel would overwrite the oldest records while they are copied, and only reports where they begin.
  if ((info.map_flags & overwrite_flag) != 0)
    throw std::invalid_argument(
        "map '" + name +
        "' has the flag BPF_F_RB_OVERWRITE: the kernel may overwrite records while they are read; "
        "leave the flag out");
  return info;
}

size_t page_size() { return static_cast<size_t>(::getpagesize()); }

// Committed records that follow each other and have one header.
struct Alike {
  size_t length = 0;  // bytes; more than there are if the header is invalid
  uint32_t header = 0;
};

// Finds those that begin at `start`, where `there` bytes wait: at most `limit` bytes, but at least one record if it is
// committed.
Alike find_alike(const std::byte* start, size_t there, size_t limit) {
  if (there == 0) return {};
  const uint32_t header = load_header(start);
  if ((header & Record::busy_bit) != 0) return {};
  const size_t stride = Record::stride(header);
  // The place of the next header does not depend on a load, so the processor can run ahead.
  size_t length = stride;
  const size_t end = std::min(there, limit);
  while (length + stride <= end && load_header(start + length) == header) {
    __builtin_prefetch(start + length + ahead);
    length += stride;
  }
  return {length, header};
}

}  // namespace

size_t SourceField::count(std::span<const std::byte> run, std::vector<uint64_t>& counts) const {
  size_t records = 0;
  for (const Record& record : Records(run))
    records += count_alike({record.start, record.stride()}, record.header, counts);
  return records;
}

size_t SourceField::count_alike(std::span<const std::byte> run, uint32_t header, std::vector<uint64_t>& counts) const {
  const size_t stride = Record::stride(header);
  const size_t records = run.size() / stride;
  if (counts.size() < all()) counts.resize(all());
  if (groups > 1 && std::max(offset, group_offset + 1) < Record::length(header)) {
    count_groups(run, stride, counts);
    return records;
  }
  if (sources == 1 || offset >= Record::length(header)) {
    counts[0] += records;
    return records;
  }
  const std::byte* source = run.data() + Record::header_size + offset;
  if (sources == 2) {  // a sum does not wait for a store
    uint64_t second = 0;
    for (size_t i = 0; i < records; ++i) second += source[i * stride] != std::byte{0} ? 1 : 0;
    counts[0] += records - second;
    counts[1] += second;
    return records;
  }
  for (size_t i = 0; i < records; ++i) ++counts[std::min(static_cast<size_t>(source[i * stride]), sources - 1)];
  return records;
}

void SourceField::count_groups(std::span<const std::byte> run, size_t stride, std::vector<uint64_t>& counts) const {
  for (const std::byte* record = run.data() + Record::header_size; record < run.data() + run.size(); record += stride) {
    uint16_t group = 0;
    std::memcpy(&group, record + group_offset, sizeof(group));
    const size_t source = std::min(static_cast<size_t>(record[offset]), sources - 1);
    ++counts[std::min<size_t>(group, groups - 1) * sources + source];
  }
}

Ring::Ring(int fd) : Ring(fd, info_of(fd)) {}

Ring::Ring(int fd, const bpf_map_info& info)
    : fd_(fd),
      size_(info.max_entries),
      name_(&info.name[0]),
      claim_(info.id, name_),
      consumer_page_(fd, page_size(), PROT_READ | PROT_WRITE, 0, "map ring buffer '" + name_ + "'"),
      producer_pages_(fd, page_size() + 2 * size_, PROT_READ, page_size(), "map ring buffer '" + name_ + "'"),
      consumer_position_(reinterpret_cast<unsigned long*>(consumer_page_.start())),
      producer_position_(reinterpret_cast<const unsigned long*>(producer_pages_.start())),
      data_(producer_pages_.start() + page_size()),
      position_(load_position(consumer_position_)) {
  if (position_ % Record::header_size != 0) refuse();
  check();
}

// The bytes that the kernel has filled, limited to the size of the ring.
size_t Ring::fill() const { return std::min(load_position(producer_position_) - position_, size_); }

void Ring::check() const {
  if (load_position(producer_position_) - position_ > size_) refuse();
}

void Ring::refuse() const {
  throw Error(EBUSY, "read ring buffer '" + name_ + "': another program has moved its consumer's position, " +
                         "and a ring buffer has one consumer");
}

size_t Ring::next_size() const {
  const size_t there = fill();
  const size_t length = find_alike(at(position_), there, 0).length;
  return length <= there ? length : Record::header_size;  // drain() throws the error
}

size_t Ring::drain(Block& block, size_t limit, const SourceField& field) {
  check();
  const unsigned long start = position_;
  const unsigned long end = start + fill();
  const size_t room = block.room();
  limit = std::min(limit, room);
  unsigned long last = start;
  while (position_ - start < limit) {
    const size_t left = limit - (position_ - start);
    const auto [length, header] = find_alike(at(position_), end - position_, std::min(left, stretch));
    if (length > end - position_ && position_ == start) refuse();
    if (length == 0 || length > end - position_ || length > room - (position_ - start)) break;
    if (length > left && position_ != start) break;
    std::byte* copy = block.memory.start() + block.used;
    std::memcpy(copy, at(position_), length);
    const bool discarded = (header & Record::discard_bit) != 0;
    const size_t stride = Record::stride(header);
    block.stride = !discarded && (block.used == 0 || block.stride == stride) ? stride : 0;
    if (!discarded) block.records += field.count_alike({copy, length}, header, block.counts);
    block.used += length;
    position_ += length;
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

// Tells the kernel up to where records were read.
void Ring::publish(unsigned long position) {
  std::atomic_ref(*consumer_position_).store(position, std::memory_order_release);
}

void Ring::release() {
  publish(position_);
  // The kernel sends no wake-up for a record that it commits while it sees an old position: a reader that looks once
  // more before it sleeps must not look before the position is published.
  std::atomic_thread_fence(std::memory_order_seq_cst);
}

void Ring::leave() {
  if (std::exchange(left_, true)) return;
  release();  // otherwise the next reader would get the last record again
  claim_.release();
}

Ring::Waiting Ring::waiting(size_t limit) const {
  const unsigned long end = position_ + fill();
  unsigned long up_to = position_;
  size_t last = 0;
  while (up_to - position_ < limit) {
    const auto [length, header] = find_alike(at(up_to), end - up_to, limit - (up_to - position_));
    if (length > end - up_to && up_to == position_) refuse();
    if (length == 0 || length > end - up_to) break;
    up_to += length;
    last = Record::stride(header);
  }
  return {{at(position_), up_to - position_}, last};
}

}  // namespace netkit_bpf
