// SPDX-License-Identifier: MIT
// Empties the rings of several queues in turn: asleep while they are idle, napping under load.
//
// A record that wakes its reader costs the packet's path microseconds. So the ring wakes the reader only if that has
// found nothing for a while; a busy reader polls again after a nap (like NAPI).
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "base/fd.hpp"

namespace netkit_bpf {

class BlockQueue;

// turn() belongs to one thread at a time; any thread may call the rest.
class Poller {
 public:
  Poller();

  void add(const std::shared_ptr<BlockQueue>& queue);
  // Removes a queue that is stopped, or was not added.
  void remove(const std::shared_ptr<BlockQueue>& queue) noexcept;

  // Waits until there are records, moves them into their queues and returns. Returns without records after `timeout`,
  // after a kick, on a signal, and sometimes for no reason.
  void turn(std::chrono::nanoseconds timeout);
  // Ends the current turn, or the next one.
  void kick();

  // How often it napped, and how often a ring woke it.
  [[nodiscard]] uint64_t naps() const noexcept { return naps_.load(std::memory_order_relaxed); }
  [[nodiscard]] uint64_t wakeups() const noexcept { return wakeups_.load(std::memory_order_relaxed); }

 private:
  using Queues = std::vector<std::shared_ptr<BlockQueue>>;

  static std::shared_ptr<Queues> copy_of(const Queues& queues) noexcept;
  size_t drain();
  void nap(std::chrono::nanoseconds timeout);
  void sleep(std::chrono::nanoseconds timeout);
  [[nodiscard]] bool wants_check() const;
  [[nodiscard]] bool is_check(int fd) const;
  void check();

  Fd epoll_;
  Fd kick_;  // an eventfd

  std::mutex mutex_;
  std::shared_ptr<const Queues> queues_;  // replaced, never changed

  // The turning thread's own.
  std::shared_ptr<const Queues> turning_;
  size_t recent_ = 0;  // records without a pause
  std::chrono::steady_clock::time_point last_check_;

  std::atomic<uint64_t> naps_ = 0;
  std::atomic<uint64_t> wakeups_ = 0;
};

}  // namespace netkit_bpf
