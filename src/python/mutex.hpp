// SPDX-License-Identifier: MIT
// Guards the bindings' own state in a Python without a GIL.
#pragma once

#include <pybind11/pybind11.h>

#include "python/gil.hpp"

namespace netkit_bpf::python {

// Held briefly: meanwhile no Python code runs and nothing waits. So it is empty where there is a GIL, which no other
// thread can take meanwhile. Without a GIL, a thread that waits for it does not delay garbage collection.
class Mutex {
 public:
  Mutex() = default;
  ~Mutex() = default;
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;

#ifdef Py_GIL_DISABLED
  [[gnu::noinline]] void lock() {
    Anchor anchor;  // a waiting thread is detached
    PyMutex_Lock(&mutex_);
    anchor.weigh();
  }
  void unlock() { PyMutex_Unlock(&mutex_); }

 private:
  PyMutex mutex_{};
#else
  void lock() {}
  void unlock() {}
#endif
};

}  // namespace netkit_bpf::python
