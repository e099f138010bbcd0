// SPDX-License-Identifier: MIT
// The thread that empties a ring buffer into blocks, and the bounded queue of blocks behind it.
//
// There is one place where records can be lost: the ring. When the queue is full the thread stops
// consuming, the ring fills, and the BPF program counts what found no room.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <optional>
#include <span>
#include <thread>
#include <vector>

#include "clock_offset.hpp"
#include "handle.hpp"
#include "ring.hpp"

namespace netkit_bpf {

struct Block {
  std::vector<std::byte> run;   // records with their headers, as they stood in the ring
  int64_t clock_offset_ns = 0;  // CLOCK_REALTIME minus CLOCK_MONOTONIC when it was read
};

// wait() and pop() may be called from any thread.
class Reader {
 public:
  // `check` is called on the reader's thread some times a second; what it throws ends the reading.
  Reader(Ring ring, size_t queue_size, std::function<void()> check);
  ~Reader();
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  // Waits until there is a block or the reading has ended. False on time-out; empty: for ever.
  bool wait(std::optional<std::chrono::nanoseconds> timeout);
  // The next block, if there is one. At the end throws, once the queue is empty, what ended the reading.
  std::optional<Block> pop();
  // Whether the reading has ended, by close() or by itself, and all blocks are popped.
  [[nodiscard]] bool ended();

  // Calls f for every run of records that was not popped yet, in the queue and in the ring.
  void each_pending(const std::function<void(std::span<const std::byte>)>& f);

  // Stops the thread and wakes everybody who waits. Idempotent. In a forked child, which has no such thread,
  // it touches nothing that the parent uses.
  void close();

 private:
  void run() noexcept;
  void read_until_stopped();
  size_t drain();
  bool is_full();
  void sleep(bool with_ring, std::chrono::nanoseconds timeout) const;
  void finish(std::exception_ptr failure);

  Ring ring_;
  const size_t queue_size_;
  const std::function<void()> check_;
  Fd kick_;  // an eventfd: there is room in the queue again, or it is time to stop

  ClockOffset clock_offset_;  // the reader's thread's own

  std::mutex draining_;  // taken before mutex_; a record moves from the ring to the queue under it
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Block> queue_;
  size_t queued_ = 0;  // bytes
  bool stopping_ = false;
  bool finished_ = false;
  std::exception_ptr failure_;

  const pid_t owner_;
  std::mutex joining_;
  std::thread thread_;  // last: what it uses is made before it
};

}  // namespace netkit_bpf
