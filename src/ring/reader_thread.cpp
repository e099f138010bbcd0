// SPDX-License-Identifier: MIT
#include "ring/reader_thread.hpp"

#include <pthread.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <new>
#include <utility>

#include "base/thread.hpp"

namespace netkit_bpf {

namespace {

// Signals are the application's: a thread made meanwhile gets none.
class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;

 private:
  sigset_t before_{};
};

}  // namespace

ReaderThread::ReaderThread() : owner_(::getpid()) {
  const SignalsBlocked blocked;
  thread_ = std::make_unique<std::thread>(start_thread("start the reader's thread", [this] {
    while (!stopping_) poller_.turn(std::chrono::hours(1));
  }));
  pthread_setname_np(thread_->native_handle(), "netkit-reader");
}

ReaderThread::~ReaderThread() {
  if (!is_here()) {
    // The handle names a thread of the parent: it is neither joined nor detached, but forgotten.
    new (std::nothrow) std::unique_ptr<std::thread>(std::move(thread_));
    return;
  }
  stopping_ = true;
  poller_.kick();
  thread_->join();
}

bool ReaderThread::is_here() const { return ::getpid() == owner_; }

}  // namespace netkit_bpf
