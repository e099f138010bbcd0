// SPDX-License-Identifier: MIT
// The memory layout of a PacketEvent: an immutable Python object with a copy of its record, decoded on access.
//
// An event can be kept for ever: it takes 160 bytes and holds no block. Copying a record takes some 3 ns; an event that
// referred to its block would keep half a mebibyte alive.
#pragma once

#include <Python.h>
#include <netkit_bpf/event.h>

namespace netkit_bpf::python {

// The packet's first bytes follow, ob_size of them.
struct PacketEvent {
  PyVarObject ob_base;
  PyObject* pair;   // a str
  nk_event record;  // timestamp is CLOCK_REALTIME here
};

inline const nk_event& record_of(PyObject* self) { return reinterpret_cast<PacketEvent*>(self)->record; }
inline const char* data_of(PyObject* self) { return reinterpret_cast<const char*>(self) + sizeof(PacketEvent); }

}  // namespace netkit_bpf::python
