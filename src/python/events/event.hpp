// SPDX-License-Identifier: MIT
// Makes PacketEvents of records.
#pragma once

#include <pybind11/pybind11.h>

#include "ring/stream.hpp"

namespace netkit_bpf::python {

// A new event from a record, which is an nk_event and perhaps the packet's first bytes. `names` is a tuple with the
// name of each pair. Null with an exception set on failure, ValueError if the record is not an nk_event.
PyObject* make_event(const Stream::View& record, PyObject* names);

}  // namespace netkit_bpf::python
