// SPDX-License-Identifier: MIT
// What the GIL does for the bindings' own state, where Python has none.
#pragma once

#include <pybind11/pybind11.h>

#include "python/gil.hpp"

namespace netkit_bpf::python {

// Held for moments: no Python code runs and nothing waits meanwhile. So it may be empty where there is a GIL, which is
// then given to no other thread. Without one a thread that waits for it holds up no garbage collection.
class Mutex {
 public:
  Mutex() = default;
  ~Mutex() = default;
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;

#ifdef Py_GIL_DISABLED
  [[gnu::noinline]] void lock() {
    Anchor anchor;  // a thread that waits is detached meanwhile
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
