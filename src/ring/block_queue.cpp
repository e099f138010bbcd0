// SPDX-License-Identifier: MIT
#include "ring/block_queue.hpp"

#include <sys/eventfd.h>

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <utility>

#include "base/error.hpp"

namespace netkit_bpf {

namespace {

using namespace std::chrono_literals;

constexpr auto longest_wait = 50ms;
// Looks to wait for a record that is a moment too young to be drained in order; one or a few are enough.
constexpr int most_looks = 100;

}  // namespace

BlockQueue::BlockQueue(std::vector<Ring> rings, size_t queue_size, size_t turn, const SourceField& field, bool ordered,
                       std::function<bool()> check)
    : queue_size_(queue_size), turn_(turn), field_(field), check_(std::move(check)), rings_(std::move(rings)) {
  if (ordered) merge_.emplace(rings_, clock_offset_);
}

size_t BlockQueue::drain() {
  const std::lock_guard draining(draining_);
  const size_t before = progress_;
  try {
    drain_rings();
  } catch (...) {
    tell(std::current_exception(), trouble_);
  }
  if (progress_ != before) wants_check_ = true;
  return progress_ - before;
}

// With draining_ held.
void BlockQueue::drain_rings() {
  {
    const std::lock_guard lock(mutex_);
    if (stopped_) return;
  }
  if (merge_) {
    for (int tries = 0; tries < most_looks && !merge_->look(); ++tries) continue;
    move(*merge_, turn_);
    return;
  }
  const size_t first = first_;
  for (size_t i = 0; i < rings_.size(); ++i) {
    const size_t ring = (first + i) % rings_.size();
    const size_t so_far = progress_;
    if (move(rings_[ring], turn_)) continue;
    first_ = progress_ == so_far ? ring : ring + 1;  // the next one has waited for longest
    break;
  }
}

// Keeps the first error.
void BlockQueue::tell(const std::exception_ptr& error, std::exception_ptr& where) {
  const std::lock_guard lock(mutex_);
  if (!where) where = error;
  announce();
}

// Moves records into the queue, about `most` bytes. False if the queue is full.
template <typename Source>
bool BlockQueue::move(Source& source, size_t most) {
  for (size_t moved = 0; moved < most;) {
    const size_t next = source.next_size();
    if (next == 0) break;
    size_t room = 0;
    {
      const std::lock_guard lock(mutex_);
      if (stopped_ || queued_ >= queue_size_) return false;
      room = std::min(queue_size_ - queued_, most - moved);
    }
    Blocks one = block_for(next);
    Block& block = *one.front();
    const size_t before = block.records;
    const size_t bytes_before = block.used;
    std::exception_ptr error;
    try {
      source.drain(block, room, field_);
    } catch (...) {
      error = std::current_exception();
    }
    progress_ += block.records - before;
    moved += block.used - bytes_before;
    if (block.used > 0) {
      const std::lock_guard lock(mutex_);
      queued_ += block.used - bytes_before;
      queue_.splice(queue_.end(), one);
      announce();
    }
    if (error) std::rethrow_exception(error);
  }
  return true;
}

// The last block of the queue if it has room, else an empty one. It is in a list, so that it can be put back into the
// queue without allocating memory.
BlockQueue::Blocks BlockQueue::block_for(size_t size) {
  const int64_t offset = clock_offset_.now();
  Blocks one;
  {
    // A reader waits for the only block of a queue, so that one stays.
    const std::lock_guard lock(mutex_);
    if (queue_.size() > 1 && queue_.back()->room() >= size && queue_.back()->clock_offset_ns == offset) {
      one.splice(one.end(), queue_, std::prev(queue_.end()));
      return one;
    }
  }
  one.push_back(pool_.get(size));
  one.front()->clock_offset_ns = offset;
  return one;
}

// With the mutex held.
void BlockQueue::announce() {
  changed_.notify_all();
  if (!ready_ || is_ready_) return;
  eventfd_write(ready_.get(), 1);
  is_ready_ = true;
}

size_t BlockQueue::take_progress() {
  const std::lock_guard draining(draining_);
  return std::exchange(progress_, 0);
}

bool BlockQueue::settle() {
  const std::lock_guard draining(draining_);
  {
    const std::lock_guard lock(mutex_);
    if (stopped_) return true;
  }
  for (Ring& ring : rings_) ring.release();
  {
    const std::lock_guard lock(mutex_);
    if (trouble_ || queued_ >= queue_size_) return true;
  }
  return std::all_of(rings_.begin(), rings_.end(), [](const Ring& ring) { return ring.next_size() == 0; });
}

bool BlockQueue::is_crowded() {
  const std::lock_guard draining(draining_);
  return std::any_of(rings_.begin(), rings_.end(), [](const Ring& ring) { return ring.fill() > ring.size() / 4; });
}

void BlockQueue::check() {
  pool_.trim();
  const std::lock_guard checking(checking_);
  wants_check_ = false;
  {
    const std::lock_guard lock(mutex_);
    if (stopped_ || failure_) return;
  }
  try {
    if (check_()) wants_check_ = true;
  } catch (...) {
    tell(std::current_exception(), failure_);
  }
  const std::lock_guard lock(mutex_);
  if (queued_ >= queue_size_) wants_check_ = true;  // what is lost then wakes nobody
}

void BlockQueue::set_groups(size_t groups) {
  const std::lock_guard draining(draining_);
  field_.groups = groups;
}

std::shared_ptr<Block> BlockQueue::pop() {
  for (;;) {
    std::unique_lock lock(mutex_);
    if (stopped_) return nullptr;
    if (!queue_.empty()) {
      std::shared_ptr<Block> block = std::move(queue_.front());
      queue_.pop_front();
      const bool was_full = queued_ >= queue_size_;
      queued_ -= block->used;
      lock.unlock();
      const bool is_settled = !wants_check_.exchange(true);  // the block's memory is to be freed some time after this
      if ((was_full || is_settled) && kick_) kick_();
      return block;
    }
    if (trouble_) {
      const std::exception_ptr trouble = std::exchange(trouble_, nullptr);
      lock.unlock();
      if (kick_) kick_();  // it may be over
      std::rethrow_exception(trouble);
    }
    if (!failure_) {
      if (std::exchange(is_ready_, false)) {
        eventfd_t count = 0;
        eventfd_read(ready_.get(), &count);
      }
      return nullptr;
    }
    const std::exception_ptr failure = failure_;
    lock.unlock();
    if (drain() == 0) std::rethrow_exception(failure);  // what came before the end is still delivered
  }
}

bool BlockQueue::wait(std::chrono::nanoseconds timeout) {
  const auto says_something = [&] { return !queue_.empty() || stopped_ || failure_ || trouble_; };
  std::unique_lock lock(mutex_);
  if (!says_something() && timeout > 0ns)
    changed_.wait_for(lock, std::min<std::chrono::nanoseconds>(timeout, longest_wait));
  return says_something();
}

void BlockQueue::wake() { changed_.notify_all(); }

bool BlockQueue::stopped() {
  const std::lock_guard lock(mutex_);
  return stopped_;
}

void BlockQueue::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
    announce();
  }
  if (kick_) kick_();
  const std::lock_guard checking(checking_);
  const std::lock_guard draining(draining_);
  for (Ring& ring : rings_) ring.leave();
}

int BlockQueue::ready_fd() {
  const std::lock_guard lock(mutex_);
  if (!ready_) {
    ready_ = Fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!ready_) throw Error(errno, "make an eventfd");
    if (!queue_.empty() || stopped_ || failure_ || trouble_) announce();
  }
  return ready_.get();
}

namespace {

// What waits in a ring, as far as is known: errors are left to reading.
std::span<const std::byte> waiting_in(const Ring& ring) {
  try {
    return ring.waiting(ring.size()).run;
  } catch (const Error&) {
    return {};
  }
}

}  // namespace

BlockQueue::Fill BlockQueue::fill() {
  const std::lock_guard draining(draining_);
  const std::lock_guard lock(mutex_);
  Fill fill;
  fill.pending.resize(field_.all());
  fill.queue = queued_;
  for (const auto& block : queue_)
    for (size_t i = 0; i < std::min(fill.pending.size(), block->counts.size()); ++i)
      fill.pending[i] += block->counts[i];
  for (const Ring& ring : rings_) {
    fill.ring += ring.fill();
    static_cast<void>(field_.count(waiting_in(ring), fill.pending));
  }
  return fill;
}

}  // namespace netkit_bpf
