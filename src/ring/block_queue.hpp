// SPDX-License-Identifier: MIT
// From the ring buffers of one stream to a bounded queue of blocks.
//
// Records can be lost only in the ring. When the queue is full nothing is drained, the ring fills, and the BPF program
// counts the records that found no room.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "base/fd.hpp"
#include "ring/block.hpp"
#include "ring/clock_offset.hpp"
#include "ring/merge.hpp"
#include "ring/ring.hpp"

namespace netkit_bpf {

// Any thread may call.
class BlockQueue {
 public:
  // `turn` is the most bytes that one drain() takes from a ring. With `ordered` all records come in the order of their
  // times (see Merge), else in the order within each ring.
  BlockQueue(std::vector<Ring> rings, size_t queue_size, size_t turn, const SourceField& field, bool ordered,
             std::function<bool()> check);

  // --- The end of the rings.

  // Moves committed records into the queue, as far as it has room. Returns the number of records. pop() throws any
  // error.
  size_t drain();
  // The records drained since the last call, by whichever thread.
  size_t take_progress();
  // Makes the next record wake the pollers of the rings. False if there is something to drain after all.
  [[nodiscard]] bool settle();
  // Whether a ring is over a quarter full.
  bool is_crowded();
  // Calls the check, which tells whether it wants to be called again; an exception ends the reading. Frees unused
  // memory.
  void check();
  // Whether check() should be called in some tenths of a second: the check wants it, or there was something to do since
  // the last one.
  [[nodiscard]] bool wants_check() const noexcept { return wants_check_.load(); }
  // A descriptor that becomes readable when check() should be called at once; -1: none. To be set before it is polled.
  void check_when_readable(int fd) { check_fd_ = fd; }
  [[nodiscard]] int check_fd() const noexcept { return check_fd_; }
  // The number of groups from now on, which only grows: before there is a record of a new one.
  void set_groups(size_t groups);

  [[nodiscard]] const std::vector<Ring>& rings() const noexcept { return rings_; }
  // Called, from any thread, when a full queue has room again and when the reading is stopped.
  void on_room(std::function<void()> kick) { kick_ = std::move(kick); }

  // --- The end of the queue.

  // The next block, if there is one. Once all are popped, throws the error that kept the rings from being drained, and
  // at the end the one that ended the reading.
  std::shared_ptr<Block> pop();
  // Waits until pop() has a block or an error, but not much longer than 50 ms. False if it may have neither.
  bool wait(std::chrono::nanoseconds timeout);
  // Wakes all waiting threads.
  void wake();
  // Whether stop() was called.
  bool stopped();
  // After this returns no ring is touched, no check runs and no block comes out: another reader may read the rings.
  // Idempotent.
  void stop();

  // An eventfd: readable while pop() has a block or an error, until a pop() that has neither.
  int ready_fd();

  struct Fill {
    std::vector<uint64_t> pending;  // records in the queue and in the rings, by group and source
    size_t ring = 0;                // bytes
    size_t queue = 0;
  };
  Fill fill();

 private:
  using Blocks = std::list<std::shared_ptr<Block>>;

  void drain_rings();
  template <typename Source>
  bool move(Source& source, size_t most);
  Blocks block_for(size_t size);
  void tell(const std::exception_ptr& error, std::exception_ptr& where);
  void announce();

  const size_t queue_size_;
  const size_t turn_;
  SourceField field_;  // changed with draining_ held
  const std::function<bool()> check_;
  std::atomic<bool> wants_check_ = true;
  int check_fd_ = -1;
  std::function<void()> kick_;
  BlockPool pool_;

  std::mutex checking_;  // held while check_() runs
  std::mutex draining_;  // taken before mutex_; held while a record moves from a ring to the queue
  std::vector<Ring> rings_;
  size_t first_ = 0;  // the ring whose turn it is when the queue has room again
  ClockOffset clock_offset_;
  std::optional<Merge> merge_;
  size_t progress_ = 0;

  std::mutex mutex_;
  std::condition_variable changed_;
  Blocks queue_;
  size_t queued_ = 0;  // bytes
  bool stopped_ = false;
  std::exception_ptr failure_;  // of the check: ends the reading, thrown at every pop()
  std::exception_ptr trouble_;  // of a drain: thrown once, then the drain is tried again
  Fd ready_;
  bool is_ready_ = false;
};

}  // namespace netkit_bpf
