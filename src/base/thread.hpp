// SPDX-License-Identifier: MIT
// Starting threads: a failure is an Error, like any other refusal by the kernel.
#pragma once

#include <pthread.h>

#include <csignal>
#include <system_error>
#include <thread>
#include <type_traits>
#include <utility>

#include "base/error.hpp"

namespace netkit_bpf {

// Blocks signals, which belong to the application: a thread made meanwhile gets none.
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

// A thread that gets no signals. `name` has 15 bytes at most, and outlives it. Throws EAGAIN if the kernel has no more
// threads for this process; `operation` names the purpose.
template <typename Function>
std::thread start_thread(const char* operation, const char* name, Function&& function) {
  try {
    const SignalsBlocked blocked;
    return std::thread([name, function = std::decay_t<Function>(std::forward<Function>(function))]() mutable {
      pthread_setname_np(pthread_self(), name);  // by another thread, it takes a descriptor
      function();
    });
  } catch (const std::system_error& error) {
    throw Error(error.code().value(), operation,
                "a limit of processes (ulimit -u, pids.max of the cgroup) or of memory is reached");
  }
}

}  // namespace netkit_bpf
