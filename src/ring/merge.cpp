// SPDX-License-Identifier: MIT
#include "ring/merge.hpp"

#include <algorithm>
#include <cstring>
#include <span>

namespace netkit_bpf {

namespace {

// The processor may look at the rings a moment before it reads the clock, whatever the program says.
constexpr uint64_t uncertainty_ns = 1000;

// As much of a ring as one look takes in.
constexpr size_t look_limit = BlockPool::block_size;

uint32_t header_of(const std::byte* record) {
  uint32_t header = 0;
  std::memcpy(&header, record, sizeof(header));
  return header;
}

}  // namespace

Merge::Merge(std::vector<Ring>& rings, const ClockOffset& clock)
    : rings_(rings), clock_(clock), newest_(rings.size()), drained_(rings.size()) {}

// What has no time is as old as what came before it. Times that go back within a ring, which can be where a CPU shares
// one, are taken for the same.
uint64_t Merge::time_at(const std::byte* record, size_t ring) const {
  const uint32_t header = header_of(record);
  uint64_t time = 0;
  if ((header & Record::discard_bit) == 0 && Record::length(header) >= sizeof(time))
    std::memcpy(&time, record + Record::header_size, sizeof(time));
  return std::max(time, newest_[ring]);
}

bool Merge::is_later(const Run& one, const Run& other) {
  return one.time != other.time ? one.time > other.time : one.ring > other.ring;
}

bool Merge::look() {
  const uint64_t now = static_cast<uint64_t>(clock_.monotonic()) - uncertainty_ns;
  bound_ = now;
  runs_.clear();
  for (size_t i = 0; i < rings_.size(); ++i) {
    const size_t fill = rings_[i].fill();
    const auto [run, last] = rings_[i].waiting(look_limit);
    // Behind these are others, not committed or not looked at, but none that is earlier.
    if (run.size() < fill) bound_ = std::min(bound_, run.empty() ? newest_[i] : time_at(&run.back() + 1 - last, i));
    if (!run.empty()) runs_.push_back({time_at(run.data(), i), i, run.data(), run.data() + run.size()});
  }
  std::make_heap(runs_.begin(), runs_.end(), is_later);
  return next_size() != 0 || runs_.empty() || bound_ < now;
}

size_t Merge::next_size() const {
  if (runs_.empty() || runs_.front().time > bound_) return 0;
  return Record::stride(header_of(runs_.front().next));
}

size_t Merge::drain(Block& block, size_t limit, const SourceField& field) {
  const size_t before = block.used;
  limit = std::min(limit, block.room());
  for (size_t stride = next_size(); stride != 0; stride = next_size()) {
    // One at least, if it fits.
    if (block.used - before + stride > (block.used == before ? block.room() : limit)) break;
    std::pop_heap(runs_.begin(), runs_.end(), is_later);
    Run& run = runs_.back();
    const uint32_t header = header_of(run.next);
    if ((header & Record::discard_bit) == 0) {
      std::byte* copy = block.memory.start() + block.used;
      std::memcpy(copy, run.next, stride);
      block.stride = block.used == 0 || block.stride == stride ? stride : 0;
      block.records += field.count_alike({copy, stride}, header, block.counts);
      block.used += stride;
    }
    newest_[run.ring] = run.time;
    drained_[run.ring].length += stride;
    drained_[run.ring].last = stride;
    run.next += stride;
    if (run.next == run.end) {
      runs_.pop_back();
      continue;
    }
    run.time = time_at(run.next, run.ring);
    std::push_heap(runs_.begin(), runs_.end(), is_later);
  }
  free_room();
  return block.used - before;
}

void Merge::free_room() {
  for (size_t i = 0; i < rings_.size(); ++i) {
    if (drained_[i].length != 0) rings_[i].skip(drained_[i].length, drained_[i].last);
    drained_[i] = {};
  }
}

}  // namespace netkit_bpf
