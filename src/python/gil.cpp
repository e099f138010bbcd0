// SPDX-License-Identifier: MIT
#include "python/gil.hpp"

namespace netkit_bpf::python {

[[gnu::noinline]] void take_gil(PyThreadState* thread) {
  Anchor anchor;
  PyEval_RestoreThread(thread);
  anchor.weigh();
}

}  // namespace netkit_bpf::python
