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

constexpr size_t counters = sizeof(nk_counts) / sizeof(uint64_t);

nk_counts read_counts(int map, uint32_t source) {
  const auto [seen, lost] = sum_counters<counters>(map, source);
  return {seen, lost};
}

constexpr size_t largest_turn = 16 << 20;

std::vector<Ring> open_rings(const StreamOptions& options) {
  std::vector<Ring> rings;
  rings.reserve(options.rings.size());
  for (const int ring : options.rings) rings.emplace_back(ring);
  return rings;
}

// The length in bytes of the first `most` records of a run, and their number.
std::pair<size_t, size_t> measure(std::span<const std::byte> run, size_t most) {
  size_t records = 0;
  for (const Record& record : Records(run))
    if (++records == most) return {static_cast<size_t>(record.end() - run.data()), records};
  return {run.size(), records};
}

// The map, once it was checked.
int counts_of(const StreamOptions& options) {
  if (options.counts_map >= 0) check_counters(options.counts_map, options.field.sources, counters);
  return options.counts_map;
}

}  // namespace

Stream::Stream(const StreamOptions& options)
    : field_(options.field),
      sources_(options.field.sources),
      counts_map_(counts_of(options)),
      released_(sources_),
      reader_(options.reader),
      inline_(options.reader ? nullptr : std::make_unique<Poller>()),
      poller_(options.reader ? options.reader->poller() : *inline_),
      check_(options.check),
      // Without a thread, the reader comes back for the next block when it is done with one. A thread has nothing else
      // to do, but a producer that is faster than the copy must not keep it at one ring.
      queue_(std::make_shared<BlockQueue>(
          open_rings(options), options.queue_size,
          options.reader ? largest_turn / std::max<size_t>(options.rings.size(), 1) : BlockPool::block_size,
          options.field, options.ordered, [this] { return check(); })) {
  queue_->check_when_readable(options.check_fd);
  queue_->on_room([this] { poller_.kick(); });
  poller_.add(queue_);
}

Stream::~Stream() { close(); }

bool Stream::next_block() {
  at_ = end_ = nullptr;
  block_.reset();  // before the next one, so that its memory is reused while it is in the cache
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
  if (popped_.size() < block_->counts.size()) popped_.resize(block_->counts.size());
  for (size_t i = 0; i < block_->counts.size(); ++i) popped_[i] += block_->counts[i];
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

bool Stream::check() {
  if (!has_lost_ && look_for_loss()) has_lost_ = true;
  return check_();
}

bool Stream::look_for_loss() {
  for (uint32_t i = 0; i < sources_ && counts_map_ >= 0; ++i)
    if (read_counts(counts_map_, i).lost > 0) return true;
  const std::lock_guard lock(counting_);
  const auto has_lost = [](const SourceStats& each) { return each.lost > 0; };
  return std::ranges::any_of(released_, has_lost) || std::ranges::any_of(read_groups(), has_lost);
}

void Stream::add_groups(Fd counts, size_t groups) {
  check_counters(counts.get(), groups * sources_, counters);
  const std::lock_guard lock(counting_);
  groups_.push_back({std::move(counts), groups});
}

void Stream::set_groups(size_t groups) {
  field_.groups = groups;
  queue_->set_groups(groups);
}

std::optional<std::vector<SourceStats>> Stream::release_group(size_t group) {
  const std::lock_guard lock(counting_);
  size_t first = 0;  // of the map with its counts
  auto counts = groups_.begin();
  while (counts != groups_.end() && group >= first + counts->groups) first += (counts++)->groups;
  if (group >= field_.groups) return std::nullopt;
  std::vector<SourceStats> found(sources_);
  if (counts == groups_.end()) return found;  // nothing has counted for it yet
  const std::vector<uint64_t> left = count_left();
  popped_.resize(std::max(popped_.size(), left.size()));
  for (size_t i = 0; i < sources_; ++i) {
    const size_t at = group * sources_ + i;
    const auto [seen, lost] = read_counts(counts->map.get(), static_cast<uint32_t>(at - first * sources_));
    found[i] = {.seen = seen, .delivered = popped_[at] - left[at], .lost = lost};
    if (seen != found[i].delivered + lost) return std::nullopt;
  }
  for (size_t i = 0; i < sources_; ++i) {
    const size_t at = group * sources_ + i;
    clear_counters(counts->map.get(), static_cast<uint32_t>(at - first * sources_), counters);
    popped_[at] = 0;
    released_[i].seen += found[i].seen;
    released_[i].delivered += found[i].delivered;
    released_[i].lost += found[i].lost;
  }
  return found;
}

// The records that are out of the queue but were not handed out, by group and source.
std::vector<uint64_t> Stream::count_left() const {
  std::vector<uint64_t> left(field_.all());
  static_cast<void>(field_.count({at_, end_}, left));
  for (const Rest& rest : returned_) static_cast<void>(field_.count(rest.run, left));
  return left;
}

// What each source of each group has seen and lost. With counting_ held.
std::vector<SourceStats> Stream::read_groups() const {
  std::vector<SourceStats> found;
  for (const Counts& each : groups_) {
    for (uint32_t i = 0; i < each.groups * sources_; ++i) {
      const nk_counts counts = read_counts(each.map.get(), i);
      found.push_back({.seen = counts.seen, .lost = counts.lost});
    }
  }
  return found;
}

int Stream::fileno() {
  const int ready = queue_->ready_fd();
  if (reader_) return ready;
  // Records stay in the rings until they are requested, so a ring that holds some is readable, too.
  const std::lock_guard lock(watching_);
  if (!watched_) {
    Fd epoll(::epoll_create1(EPOLL_CLOEXEC));
    if (!epoll) throw Error(errno, "make an epoll instance");
    epoll_event event{};
    event.events = EPOLLIN;
    int error = ::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, ready, &event);
    for (const Ring& ring : queue_->rings())
      if (error == 0) error = ::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, ring.fd(), &event);
    if (const int check = queue_->check_fd(); error == 0 && check >= 0)
      error = ::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, check, &event);
    if (error != 0) throw Error(errno, "watch a ring buffer");
    watched_ = std::move(epoll);
  }
  return watched_.get();
}

StreamStats Stream::stats() {
  StreamStats stats;
  {
    const std::lock_guard lock(counting_);
    stats.groups = read_groups();
    stats.sources = released_;
  }
  stats.groups.resize(std::min(stats.groups.size(), field_.all()));  // the maps have room for more
  for (uint32_t i = 0; i < sources_ && counts_map_ >= 0; ++i) {
    const nk_counts counts = read_counts(counts_map_, i);
    stats.sources[i].seen += counts.seen;
    stats.sources[i].lost += counts.lost;
  }
  const std::vector<uint64_t> left = count_left();
  const BlockQueue::Fill fill = queue_->fill();
  popped_.resize(std::max(popped_.size(), left.size()));
  for (size_t i = 0; i < left.size(); ++i) {
    const SourceStats records{.delivered = popped_[i] - left[i], .pending = left[i] + fill.pending[i]};
    if (i < stats.groups.size()) {
      stats.groups[i].delivered = records.delivered;
      stats.groups[i].pending = records.pending;
    }
    stats.sources[i % sources_].delivered += records.delivered;
    stats.sources[i % sources_].pending += records.pending;
  }
  for (size_t i = 0; i < stats.groups.size(); ++i) {
    stats.sources[i % sources_].seen += stats.groups[i].seen;
    stats.sources[i % sources_].lost += stats.groups[i].lost;
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
