// SPDX-License-Identifier: MIT
#include "ring/reader_thread.hpp"

#include <unistd.h>

#include <chrono>
#include <new>
#include <utility>

#include "base/thread.hpp"

namespace netkit_bpf {

ReaderThread::ReaderThread() : owner_(::getpid()) {
  thread_ = std::make_unique<std::thread>(start_thread("start the reader's thread", "netkit-reader", [this] {
    while (!stopping_) poller_.turn(std::chrono::hours(1));
  }));
}

ReaderThread::~ReaderThread() {
  if (!is_here()) {
    // The handle belongs to a thread of the parent: it is neither joined nor detached, but dropped.
    new (std::nothrow) std::unique_ptr<std::thread>(std::move(thread_));
    return;
  }
  stopping_ = true;
  poller_.kick();
  thread_->join();
}

bool ReaderThread::is_here() const { return ::getpid() == owner_; }

}  // namespace netkit_bpf
