// SPDX-License-Identifier: MIT
// PacketEvent: an immutable Python object with its record inside, decoded on access.
#pragma once

#include <pybind11/pybind11.h>

#include "../../bpf/event.h"
#include "../stream.hpp"

namespace netkit_bpf::python {

// A new event of a record, which is an nk_event and perhaps the packet's first bytes. `names` is a tuple with the name
// of each pair. Null with an exception set, ValueError if the record is no nk_event.
PyObject* make_event(const Stream::View& record, PyObject* names);

}  // namespace netkit_bpf::python
