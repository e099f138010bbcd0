// SPDX-License-Identifier: MIT
#include "ring/stream.hpp"

#include <sys/epoll.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/counters.hpp"
#include "base/error.hpp"
#include "ring/block_queue.hpp"
#include "ring/poller.hpp"
#include "ring/reader_thread.hpp"

namespace netkit_bpf {

namespace {

nk_counts read_counts(int map, uint32_t source) {
  static_assert(sizeof(nk_counts) == 2 * sizeof(uint64_t));
  const auto [seen, lost] = sum_counters<2>(map, source);
  return {seen, lost};
}

constexpr size_t largest_turn = 16 << 20;

std::vector<Ring> open_rings(const StreamOptions& options) {
  std::vector<Ring> rings;
  rings.reserve(options.rings.size());
  for (const int ring : options.rings) rings.emplace_back(ring);
  return rings;
}

// How long the first `most` records of a run are, and how many they are.
std::pair<size_t, size_t> measure(std::span<const std::byte> run, size_t most) {
  size_t records = 0;
  for (const Record& record : Records(run))
    if (++records == most) return {static_cast<size_t>(record.end() - run.data()), records};
  return {run.size(), records};
}

}  // namespace

Stream::Stream(const StreamOptions& options)
    : field_(options.field),
      counts_map_(options.counts_map),
      reader_(options.reader),
      inline_(options.reader ? nullptr : std::make_unique<Poller>()),
      poller_(options.reader ? options.reader->poller() : *inline_),
      check_(options.check),
      // Who reads by itself comes back for the next block when it is done with one; a thread has nothing else to do,
      // but must not be kept at one ring by a producer that is faster than the copy.
      queue_(std::make_shared<BlockQueue>(
          open_rings(options), options.queue_size,
          options.reader ? largest_turn / std::max<size_t>(options.rings.size(), 1) : BlockPool::block_size,
          options.field, options.ordered, [this] { check(); })),
      popped_(options.field.sources) {
  queue_->on_room([this] { poller_.kick(); });
  poller_.add(queue_);
}

Stream::~Stream() { close(); }

bool Stream::next_block() {
  at_ = end_ = nullptr;
  block_.reset();  // before the next one, so that its memory is used again while it is in the cache
  if (!returned_.empty()) {
    Rest rest = std::move(returned_.back());
    returned_.pop_back();
    block_ = std::move(rest.block);
    at_ = rest.run.data();
    end_ = at_ + rest.run.size();
    return true;
  }
  block_ = queue_->pop();
  if (!block_) return false;
  at_ = block_->run().data();
  end_ = at_ + block_->used;
  for (size_t i = 0; i < popped_.size(); ++i) popped_[i] += block_->counts[i];
  return true;
}

void Stream::put_back(const Slice& slice, size_t taken) {
  if (taken == slice.run.size()) return;
  if (at_ != end_) returned_.push_back({block_, {at_, end_}});
  returned_.push_back({slice.block, slice.run.subspan(taken)});
  at_ = end_ = nullptr;
}

std::optional<Slice> Stream::take(size_t most) {
  do {
    const std::span<std::byte> rest{at_, end_};
    const size_t stride = rest.empty() ? 0 : block_->stride;
    const auto [length, records] =
        stride == 0 ? measure(rest, most)
                    : std::pair{std::min(rest.size(), most * stride), std::min(rest.size() / stride, most)};
    at_ += length;
    if (records > 0) return Slice{block_, rest.first(length), records, stride, block_->clock_offset_ns};
  } while (next_block());
  return std::nullopt;
}

void Stream::wait(std::chrono::nanoseconds timeout) {
  if (timeout <= std::chrono::nanoseconds::zero() && reader_) {
    queue_->drain();
    return;
  }
  if (reader_) {
    queue_->wait(timeout);
    return;
  }
  // One of several threads empties the rings; the others wait for it.
  if (std::unique_lock turn(turning_, std::try_to_lock); turn) {
    if (!queue_->wait({})) poller_.turn(timeout);
  } else {
    queue_->wait(timeout);
  }
  queue_->wake();
}

bool Stream::ended() { return queue_->stopped(); }

void Stream::check() {
  for (uint32_t i = 0; i < field_.sources && counts_map_ >= 0 && !has_lost_; ++i)
    has_lost_ = read_counts(counts_map_, i).lost > 0;
  check_();
}

int Stream::fileno() {
  const int ready = queue_->ready_fd();
  if (reader_) return ready;
  // Nobody moves records out of the rings before they are asked for: a ring that holds some counts, too.
  const std::lock_guard lock(watching_);
  if (!watched_) {
    Fd epoll(::epoll_create1(EPOLL_CLOEXEC));
    if (!epoll) throw Error(errno, "make an epoll instance");
    epoll_event event{};
    event.events = EPOLLIN;
    int error = ::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, ready, &event);
    for (const Ring& ring : queue_->rings())
      if (error == 0) error = ::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, ring.fd(), &event);
    if (error != 0) throw Error(errno, "watch a ring buffer");
    watched_ = std::move(epoll);
  }
  return watched_.get();
}

StreamStats Stream::stats() {
  StreamStats stats;
  stats.sources.resize(field_.sources);
  for (uint32_t i = 0; i < field_.sources && counts_map_ >= 0; ++i) {
    const nk_counts counts = read_counts(counts_map_, i);
    stats.sources[i].seen = counts.seen;
    stats.sources[i].lost = counts.lost;
  }
  std::vector<uint64_t> left(field_.sources);
  static_cast<void>(field_.count({at_, end_}, left));
  for (const Rest& rest : returned_) static_cast<void>(field_.count(rest.run, left));
  const BlockQueue::Fill fill = queue_->fill();
  for (size_t i = 0; i < field_.sources; ++i) {
    stats.sources[i].delivered = popped_[i] - left[i];
    stats.sources[i].pending = left[i] + fill.pending[i];
  }
  stats.ring_fill = fill.ring;
  stats.queue_fill = fill.queue;
  stats.naps = poller_.naps();
  stats.wakeups = poller_.wakeups();
  return stats;
}

void Stream::close() {
  queue_->stop();
  poller_.remove(queue_);
}

}  // namespace netkit_bpf
