// SPDX-License-Identifier: MIT
// Threads whose failure to start is told as what the kernel refuses is.
#pragma once

#include <system_error>
#include <thread>
#include <utility>

#include "base/error.hpp"

namespace netkit_bpf {

// Throws EAGAIN where the kernel has no more threads for this process; `operation` says what it is for.
template <typename Function>
std::thread start_thread(const char* operation, Function&& function) {
  try {
    return std::thread(std::forward<Function>(function));
  } catch (const std::system_error& error) {
    throw Error(error.code().value(), operation,
                "a limit of processes (ulimit -u, pids.max of the cgroup) or of memory is reached");
  }
}

}  // namespace netkit_bpf
