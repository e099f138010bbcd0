// SPDX-License-Identifier: MIT
// The attributes of a PacketEvent, decoded on access.
#pragma once

#include <pybind11/pybind11.h>

namespace netkit_bpf::python {

// All of them, in the order of __match_args__, asdict() and the JSON object, and an empty one at the end.
PyGetSetDef* event_fields();

// Their names. Must be called once, before the first access.
pybind11::tuple name_event_fields();

// tp_getattro. The generic one finds the attributes too, but takes twice as long.
PyObject* get_event_field(PyObject* self, PyObject* name);

}  // namespace netkit_bpf::python
