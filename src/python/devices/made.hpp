// SPDX-License-Identifier: MIT
// What the kernel made for a Python object that its caller does not have yet.
#pragma once

#include <pybind11/pybind11.h>
#include <sys/types.h>

#include <functional>

namespace netkit_bpf::python {

// Undoes the making when it is destroyed, unless it was handed over or kept before. Ctrl-C, and whatever else a
// signal's handler raises, comes between any two steps of Python code: what the kernel made is an object from its first
// step on, of which Python's own unwinding lets go. A forked child, which has a copy, undoes nothing.
class Made {
 public:
  explicit Made(std::function<void()> undo);
  ~Made();
  Made(const Made&) = delete;
  Made& operator=(const Made&) = delete;

  // The caller of the calling Python function gets it now. It is still undone where an exception unwinds one of these
  // two frames with nobody else holding it: then the caller got nothing.
  void hand_over();
  // For good: it lives on, or is gone.
  void keep() noexcept { undo_ = nullptr; }
  // With an exception set, as Python is unwinding.
  void dropped_while_unwinding();

 private:
  std::function<void()> undo_;
  pid_t process_;
  bool handed_over_ = false;
  const void* callee_ = nullptr;  // frames, to be compared alone
  const void* caller_ = nullptr;
};

}  // namespace netkit_bpf::python
