// SPDX-License-Identifier: MIT
// PacketEvent: an immutable Python object with a copy of its record inside, decoded on access.
//
// An event is safe to keep for ever: it holds 152 bytes, and no block. Copying a record takes some 3 ns; an event that
// referred to its block instead would keep half a mebibyte for as long as it lives.
#pragma once

#include <netkit_bpf/event.h>
#include <pybind11/pybind11.h>

#include "ring/stream.hpp"

namespace netkit_bpf::python {

// The packet's first bytes follow, ob_size of them.
struct PacketEvent {
  PyVarObject ob_base;
  PyObject* pair;   // a str
  nk_event record;  // timestamp is CLOCK_REALTIME here
};

inline const nk_event& record_of(PyObject* self) { return reinterpret_cast<PacketEvent*>(self)->record; }
inline const char* data_of(PyObject* self) { return reinterpret_cast<const char*>(self) + sizeof(PacketEvent); }

// A new event of a record, which is an nk_event and perhaps the packet's first bytes. `names` is a tuple with the name
// of each pair. Null with an exception set, ValueError if the record is no nk_event.
PyObject* make_event(const Stream::View& record, PyObject* names);

}  // namespace netkit_bpf::python
