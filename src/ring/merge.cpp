// SPDX-License-Identifier: MIT
#include "ring/merge.hpp"

#include <algorithm>
#include <cstring>
#include <span>

namespace netkit_bpf {

namespace {

// The processor may look at the rings a moment before it reads the clock, whatever the program says.
constexpr uint64_t uncertainty_ns = 1000;

// The part of a ring that one look examines.
constexpr size_t look_limit = BlockPool::block_size;

}  // namespace

Merge::Merge(std::vector<Ring>& rings, const ClockOffset& clock)
    : rings_(rings), clock_(clock), lanes_(rings.size()), newest_(rings.size()), drained_(rings.size()) {}

// A record without a time is as old as the one before it. Times that go back within a ring, which can happen where CPUs
// share one, count as equal.
uint64_t Merge::time_of(const Record& record, size_t ring) const {
  uint64_t time = 0;
  if (record.data().size() >= sizeof(time)) std::memcpy(&time, record.data().data(), sizeof(time));
  return std::max(time, newest_[ring]);
}

bool Merge::is_later(const Next& one, const Next& other) {
  return one.time != other.time ? one.time > other.time : one.ring > other.ring;
}

bool Merge::look() {
  const uint64_t now = static_cast<uint64_t>(clock_.monotonic()) - uncertainty_ns;
  bound_ = now;
  next_.clear();
  for (size_t i = 0; i < rings_.size(); ++i) {
    rings_[i].check();
    const size_t fill = rings_[i].fill();
    const auto [run, last] = rings_[i].waiting(look_limit);
    const Records records(run);
    const Records::Iterator next = records.begin();
    // More records follow, not committed or not examined, but none is earlier.
    if (run.size() < fill) {
      const Records::Iterator youngest = Records(run.last(last)).begin();
      bound_ = std::min(bound_, youngest == Records::end() ? newest_[i] : time_of(*youngest, i));
    }
    if (next != Records::end()) {
      lanes_[i] = {next, run.data(), run.data() + run.size()};
      next_.push_back({time_of(*next, i), i});
    } else if (!run.empty()) {
      rings_[i].skip(run.size(), last);  // discarded ones
    }
  }
  std::make_heap(next_.begin(), next_.end(), is_later);
  return next_size() != 0 || next_.empty() || bound_ < now;
}

size_t Merge::next_size() const {
  if (next_.empty() || next_.front().time > bound_) return 0;
  return lanes_[next_.front().ring].next->stride();
}

size_t Merge::drain(Block& block, size_t limit, const SourceField& field) {
  const size_t before = block.used;
  limit = std::min(limit, block.room());
  for (size_t stride = next_size(); stride != 0; stride = next_size()) {
    // One at least, if it fits.
    if (block.used - before + stride > (block.used == before ? block.room() : limit)) break;
    std::pop_heap(next_.begin(), next_.end(), is_later);
    auto& [time, ring] = next_.back();
    Lane& lane = lanes_[ring];
    const Record record = *lane.next;
    std::byte* copy = block.memory.start() + block.used;
    std::memcpy(copy, record.start, stride);
    block.stride = block.used == 0 || block.stride == stride ? stride : 0;
    block.records += field.count_alike({copy, stride}, record.header, block.counts);
    block.used += stride;
    newest_[ring] = time;
    ++lane.next;
    const bool is_empty = lane.next == Records::end();
    const std::byte* const freed = is_empty ? lane.end : record.end();
    drained_[ring].length += static_cast<size_t>(freed - lane.freed);
    drained_[ring].last = static_cast<size_t>(freed - record.start);
    lane.freed = freed;
    if (is_empty) {
      next_.pop_back();
      continue;
    }
    time = time_of(*lane.next, ring);
    std::push_heap(next_.begin(), next_.end(), is_later);
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
