// SPDX-License-Identifier: MIT
// The thread that empties ring buffers, for any number of streams.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <memory>
#include <thread>

#include "ring/poller.hpp"

namespace netkit_bpf {

// Any thread may use it. The thread ends with the object.
class ReaderThread {
 public:
  ReaderThread();
  ~ReaderThread();
  ReaderThread(const ReaderThread&) = delete;
  ReaderThread& operator=(const ReaderThread&) = delete;

  Poller& poller() noexcept { return poller_; }
  // False in a forked child, which has no such thread.
  [[nodiscard]] bool is_here() const;

 private:
  Poller poller_;
  std::atomic<bool> stopping_ = false;
  const pid_t owner_;
  std::unique_ptr<std::thread> thread_;  // last, so that what it uses is made before it
};

}  // namespace netkit_bpf
