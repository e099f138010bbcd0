// SPDX-License-Identifier: MIT
// A type made with the C API: a pybind11 class would cost 17 times as much per object in a loop.
#include "python/events/event.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "events/summary_line.hpp"
#include "python/bindings.hpp"
#include "python/events/event_fields.hpp"
#include "python/events/packet_event.hpp"
#include "python/gil.hpp"

namespace py = pybind11;

namespace netkit_bpf::python {

namespace {

// Made once with the module, never changed.
PyTypeObject* event_type = nullptr;
PyObject* field_names = nullptr;  // a tuple

// Freed events without data, for reuse: each keeps its reference to the type. A loop needs two.
#ifndef Py_GIL_DISABLED
constexpr size_t most_unused = 64;
std::array<PacketEvent*, most_unused> unused;
size_t unused_count = 0;

PacketEvent* reuse() {
  if (unused_count == 0) return nullptr;
  PacketEvent* event = unused[--unused_count];
  Py_SET_REFCNT(reinterpret_cast<PyObject*>(event), 1);
  return event;
}

bool keep_unused(PacketEvent* event) {
  if (unused_count == most_unused || Py_SIZE(event) != 0) return false;
  unused[unused_count++] = event;
  return true;
}
#else  // there the allocator itself has a list for each thread
PacketEvent* reuse() { return nullptr; }
bool keep_unused(PacketEvent*) { return false; }
#endif

PyObject* copy_record(std::span<const std::byte> record, int64_t clock_offset_ns, PyObject* pair) {
  PacketEvent* event = nullptr;
  if (record.size() == sizeof(nk_event)) {
    event = reuse();
    if (event == nullptr) event = PyObject_NewVar(PacketEvent, event_type, 0);
    if (event == nullptr) return nullptr;
    std::memcpy(&event->record, record.data(), sizeof(nk_event));
  } else {
    event = PyObject_NewVar(PacketEvent, event_type, static_cast<Py_ssize_t>(record.size() - sizeof(nk_event)));
    if (event == nullptr) return nullptr;
    std::memcpy(&event->record, record.data(), record.size());
  }
  event->record.timestamp += static_cast<uint64_t>(clock_offset_ns);
  event->pair = Py_NewRef(pair);
  return reinterpret_cast<PyObject*>(event);
}

bool is_event(size_t size) {
  if (size >= sizeof(nk_event)) return true;
  PyErr_Format(PyExc_ValueError, "a record has %zu bytes, not %zu: it is not a packet event", sizeof(nk_event), size);
  return false;
}

PyObject* pair_of(PyObject* self) { return reinterpret_cast<PacketEvent*>(self)->pair; }

// The record and the data, which follows it.
std::string_view bytes_of(PyObject* self) {
  return {reinterpret_cast<const char*>(&record_of(self)), sizeof(nk_event) + static_cast<size_t>(Py_SIZE(self))};
}

PyObject* event_str(PyObject* self) {
  SummaryLine line;
  write_summary(record_of(self), line);
  const std::string_view text = line.view();
  PyObject* str = PyUnicode_New(static_cast<Py_ssize_t>(text.size()), 127);
  if (str != nullptr) std::memcpy(PyUnicode_DATA(str), text.data(), text.size());
  return str;
}

PyObject* event_repr(PyObject* self) {
  PyObject* line = event_str(self);
  if (line == nullptr) return nullptr;
  PyObject* repr = PyUnicode_FromFormat("<PacketEvent %U %U>", pair_of(self), line);
  Py_DECREF(line);
  return repr;
}

PyObject* event_asdict(PyObject* self, PyObject*) {
  PyObject* dict = PyDict_New();
  Py_ssize_t number = 0;
  for (const PyGetSetDef* field = event_fields(); dict != nullptr && field->name != nullptr; ++field, ++number) {
    PyObject* value = field->get(self, nullptr);
    if (value == nullptr || PyDict_SetItem(dict, PyTuple_GET_ITEM(field_names, number), value) != 0) Py_CLEAR(dict);
    Py_XDECREF(value);
  }
  return dict;
}

PyObject* event_without_data(PyObject* self, PyObject*) {
  if (Py_SIZE(self) == 0) return Py_NewRef(self);
  return copy_record(std::as_bytes(std::span(&record_of(self), 1)), 0, pair_of(self));
}

PyObject* event_to_json(PyObject* self, PyObject*) {
  static Imported to_json("netkit_bpf.events.event", "_to_json");
  PyObject* const function = to_json.get();
  return function == nullptr ? nullptr : call_python([&] { return PyObject_CallOneArg(function, self); });
}

PyObject* event_to_html(PyObject* self, PyObject*) {
  static Imported to_html("netkit_bpf.events.event", "_to_html");
  PyObject* const function = to_html.get();
  return function == nullptr ? nullptr : call_python([&] { return PyObject_CallOneArg(function, self); });
}

// For pickling, and for tests that need no kernel: an event from the bytes of its record.
PyObject* event_from_record(PyObject*, PyObject* args) {
  const char* bytes = nullptr;
  Py_ssize_t size = 0;
  PyObject* pair = nullptr;
  if (PyArg_ParseTuple(args, "y#U", &bytes, &size, &pair) == 0) return nullptr;
  const std::span record(reinterpret_cast<const std::byte*>(bytes), static_cast<size_t>(size));
  return is_event(record.size()) ? copy_record(record, 0, pair) : nullptr;
}

PyObject* event_reduce(PyObject* self, PyObject*) {
  PyObject* rebuild = PyObject_GetAttrString(reinterpret_cast<PyObject*>(Py_TYPE(self)), "_from_record");
  if (rebuild == nullptr) return nullptr;
  const std::string_view bytes = bytes_of(self);
  return Py_BuildValue("N(y#O)", rebuild, bytes.data(), static_cast<Py_ssize_t>(bytes.size()), pair_of(self));
}

PyObject* event_itself(PyObject* self, PyObject*) { return Py_NewRef(self); }

// Events with the same fields are equal. Events are ordered only by time.
PyObject* event_richcompare(PyObject* self, PyObject* other, int operation) {
  if (Py_TYPE(other) != event_type) Py_RETURN_NOTIMPLEMENTED;
  if (operation != Py_EQ && operation != Py_NE)
    Py_RETURN_RICHCOMPARE(record_of(self).timestamp, record_of(other).timestamp, operation);
  const int same_pair = PyObject_RichCompareBool(pair_of(self), pair_of(other), Py_EQ);
  if (same_pair < 0) return nullptr;
  const bool same = same_pair == 1 && bytes_of(self) == bytes_of(other);
  return PyBool_FromLong(same == (operation == Py_EQ) ? 1 : 0);
}

Py_hash_t event_hash(PyObject* self) {
  const auto hash = static_cast<Py_hash_t>(std::hash<std::string_view>{}(bytes_of(self)));
  return hash == -1 ? -2 : hash;
}

void event_dealloc(PyObject* self) {
  Py_DECREF(pair_of(self));
  if (keep_unused(reinterpret_cast<PacketEvent*>(self))) return;
  PyTypeObject* type = Py_TYPE(self);
  type->tp_free(self);
  Py_DECREF(type);
}

std::array<PyMethodDef, 9> methods{{
    {"asdict", event_asdict, METH_NOARGS, "All fields by name, in their order, as a new dict."},
    {"to_json", event_to_json, METH_NOARGS, "All fields as one JSON object in one line."},
    {"_repr_html_", event_to_html, METH_NOARGS, nullptr},
    {"without_data", event_without_data, METH_NOARGS, "The same event without the packet's data."},
    {"_from_record", event_from_record, METH_VARARGS | METH_STATIC, nullptr},
    {"__reduce__", event_reduce, METH_NOARGS, nullptr},
    {"__copy__", event_itself, METH_NOARGS, nullptr},
    {"__deepcopy__", event_itself, METH_O, nullptr},
    {},
}};

constexpr const char* doc =
    "One packet at a hook of a netkit pair. Immutable; any thread may use it.\n\n"
    "str(event) is a summary, \"[side] IPv6: src -> dst | next=… len=… ttl=…\": next is next_header, len is\n"
    "payload_len and ttl is hop_limit; if the packet is not IP, len is length. asdict() and to_json()\n"
    "give all fields. A field that does not apply is None. Events are ordered by time; events with the same\n"
    "fields are equal. Events can be kept: each has its own copy of the record, and blocks nothing.";

py::object make_type() {
  std::array<PyType_Slot, 10> slots{{
      {Py_tp_dealloc, reinterpret_cast<void*>(event_dealloc)},
      {Py_tp_str, reinterpret_cast<void*>(event_str)},
      {Py_tp_repr, reinterpret_cast<void*>(event_repr)},
      {Py_tp_hash, reinterpret_cast<void*>(event_hash)},
      {Py_tp_richcompare, reinterpret_cast<void*>(event_richcompare)},
      {Py_tp_getattro, reinterpret_cast<void*>(get_event_field)},
      {Py_tp_getset, event_fields()},
      {Py_tp_methods, methods.data()},
      {Py_tp_doc, const_cast<char*>(doc)},
      {},
  }};
  PyType_Spec spec{"netkit_bpf.PacketEvent", sizeof(PacketEvent), 1,
                   Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, slots.data()};
  auto type = py::reinterpret_steal<py::object>(PyType_FromSpec(&spec));
  if (!type) throw py::error_already_set();
  return type;
}

}  // namespace

PyObject* make_event(const Stream::View& record, PyObject* names) {
  if (!is_event(record.data.size())) return nullptr;
  const uint16_t pair = reinterpret_cast<const nk_event*>(record.data.data())->pair;
  if (pair >= PyTuple_GET_SIZE(names)) {
    PyErr_Format(PyExc_ValueError, "a packet event names pair %d of %zd", int{pair}, PyTuple_GET_SIZE(names));
    return nullptr;
  }
  return copy_record(record.data, record.clock_offset_ns, PyTuple_GET_ITEM(names, pair));
}

void bind_event(py::module_& module) {
  const py::object type = make_type();
  py::object names = name_event_fields();
  type.attr("__match_args__") = names;
  field_names = names.release().ptr();
  module.attr("PacketEvent") = type;
  event_type = reinterpret_cast<PyTypeObject*>(type.inc_ref().ptr());
  event_type->tp_flags |= Py_TPFLAGS_IMMUTABLETYPE;
  PyType_Modified(event_type);
}

}  // namespace netkit_bpf::python
