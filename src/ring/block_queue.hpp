// SPDX-License-Identifier: MIT
// From the ring buffers of one stream to a bounded queue of blocks.
//
// There is one place where records can be lost: the ring. When the queue is full nothing is drained, the
// ring fills, and the BPF program counts what found no room.
#pragma once

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
  // `turn` is how many bytes of a ring one drain() takes at most. With `ordered` records come in the order of their
  // times (see Merge), else those of each ring in their order.
  BlockQueue(std::vector<Ring> rings, size_t queue_size, size_t turn, const SourceField& field, bool ordered,
             std::function<void()> check);

  // --- The end of the rings.

  // Moves what is committed into the queue, as far as the queue has room. Returns the number of records. What goes
  // wrong is for pop() to tell.
  size_t drain();
  // The records drained since the last call, by whichever thread.
  size_t take_progress();
  // Has the next record wake whoever polls the rings. False if there is something to drain after all.
  [[nodiscard]] bool settle();
  // Whether a ring is over a quarter full.
  bool is_crowded();
  // Calls the check; what it throws ends the reading. Gives back memory that lies idle.
  void check();

  [[nodiscard]] const std::vector<Ring>& rings() const noexcept { return rings_; }
  // Called, from any thread, when a full queue has room again and when the reading is stopped.
  void on_room(std::function<void()> kick) { kick_ = std::move(kick); }

  // --- The end of the queue.

  // The next block, if there is one. Throws, once all is popped, what kept the rings from being drained, and at the end
  // what ended the reading.
  std::shared_ptr<Block> pop();
  // Waits until pop() has something to say, but not much longer than 50 ms. False if it is not known to have.
  bool wait(std::chrono::nanoseconds timeout);
  // Wakes whoever waits.
  void wake();
  // Whether stop() was called.
  bool stopped();
  // Once this returns no ring is touched any more, no check runs and no block comes out: somebody else may read the
  // rings. Idempotent.
  void stop();

  // An eventfd: readable while pop() has something to say, until a pop() that has not.
  int ready_fd();

  struct Fill {
    std::vector<uint64_t> pending;  // records by source that were not popped, in the queue and in the rings
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
  const SourceField field_;
  const std::function<void()> check_;
  std::function<void()> kick_;
  BlockPool pool_;

  std::mutex checking_;  // held while check_() runs
  std::mutex draining_;  // taken before mutex_; a record moves from a ring to the queue under it
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
  std::exception_ptr failure_;  // of the check: the end, told over and over
  std::exception_ptr trouble_;  // of a drain: told once, then it is tried again
  Fd ready_;
  bool is_ready_ = false;
};

}  // namespace netkit_bpf
