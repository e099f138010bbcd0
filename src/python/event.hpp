// SPDX-License-Identifier: MIT
// PacketEvent: an immutable Python object with its record inside, decoded on access.
#pragma once

#include <pybind11/pybind11.h>

#include "../../bpf/event.h"

namespace netkit_bpf::python {

// A new event, its timestamp moved to Unix time. `pair` is the name of its pair. Null with an exception set.
PyObject* make_event(const nk_event& record, int64_t clock_offset_ns, PyObject* pair);

}  // namespace netkit_bpf::python
