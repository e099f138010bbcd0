// SPDX-License-Identifier: MIT
// Something that the kernel made for a Python object, until the caller has that object.
#pragma once

#include <pybind11/pybind11.h>
#include <sys/types.h>

#include <functional>

namespace netkit_bpf::python {

// Undoes the creation when it is destroyed, unless it was handed over or kept before. Ctrl-C, or another exception of a
// signal handler, can come between any two steps of Python code. So this object owns what the kernel made from the
// first step on, and Python's unwinding releases it. A forked child, which has a copy, undoes nothing.
class Made {
 public:
  explicit Made(std::function<void()> undo);
  ~Made();
  Made(const Made&) = delete;
  Made& operator=(const Made&) = delete;

  // The calling Python function now returns it to its caller. It is still undone if an exception unwinds one of these
  // two frames while nothing else holds it: then the caller got nothing.
  void hand_over();
  // Never undo it: it stays, or is gone already.
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
