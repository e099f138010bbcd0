// SPDX-License-Identifier: MIT
// A type made with the C API: a pybind11 class would cost 17 times as much per object in a loop.
#define PY_SSIZE_T_CLEAN  // before Python.h: lengths of "y#" are Py_ssize_t
#include "event.hpp"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "../format.hpp"
#include "bindings.hpp"

namespace py = pybind11;

namespace netkit_bpf::python {

namespace {

// The packet's first bytes follow, ob_size of them.
struct PacketEvent {
  PyVarObject ob_base;
  PyObject* pair;   // a str
  nk_event record;  // timestamp is CLOCK_REALTIME here
};

PyTypeObject* event_type = nullptr;  // made once with the module, never changed

const nk_event& record_of(PyObject* self) { return reinterpret_cast<PacketEvent*>(self)->record; }
bool has(PyObject* self, unsigned flags) { return (record_of(self).flags & flags) != 0; }
bool is_ipv4(PyObject* self) { return record_of(self).ip_word >> 28 == 4; }

std::string_view data_of(PyObject* self) {
  return {reinterpret_cast<const char*>(reinterpret_cast<PacketEvent*>(self) + 1), static_cast<size_t>(Py_SIZE(self))};
}

PyObject* number(unsigned long value) { return PyLong_FromUnsignedLong(value); }
PyObject* number_if(bool applies, unsigned long value) {
  if (!applies) Py_RETURN_NONE;
  return number(value);
}

// The named class of a module, imported when it is first needed.
PyObject* imported(py::gil_safe_call_once_and_store<py::object>& store, const char* module, const char* name) {
  return store.call_once_and_store_result([&] { return py::object(py::module_::import(module).attr(name)); })
      .get_stored()
      .ptr();
}

PyObject* make_address(PyObject* self, const __u8 (&address)[16]) {
  if (!has(self, NK_IP)) Py_RETURN_NONE;
  static py::gil_safe_call_once_and_store<py::object> ipv4;
  static py::gil_safe_call_once_and_store<py::object> ipv6;
  try {
    PyObject* type =
        is_ipv4(self) ? imported(ipv4, "ipaddress", "IPv4Address") : imported(ipv6, "ipaddress", "IPv6Address");
    return PyObject_CallFunction(type, "y#", &address[0], Py_ssize_t{is_ipv4(self) ? 4 : 16});
  } catch (py::error_already_set& error) {
    error.restore();
    return nullptr;
  }
}

PyObject* get_timestamp_ns(PyObject* self, void*) { return PyLong_FromUnsignedLongLong(record_of(self).timestamp); }
PyObject* get_pair(PyObject* self, void*) { return Py_NewRef(reinterpret_cast<PacketEvent*>(self)->pair); }
PyObject* get_side(PyObject* self, void*) {
  static py::gil_safe_call_once_and_store<py::object> primary;
  static py::gil_safe_call_once_and_store<py::object> peer;
  try {
    const auto member = [](const char* name) {
      return [name] { return py::object(py::module_::import("netkit_bpf.enums").attr("Side").attr(name)); };
    };
    auto& store = record_of(self).side == NK_PRIMARY ? primary.call_once_and_store_result(member("PRIMARY"))
                                                     : peer.call_once_and_store_result(member("PEER"));
    return Py_NewRef(store.get_stored().ptr());
  } catch (py::error_already_set& error) {
    error.restore();
    return nullptr;
  }
}
PyObject* get_family(PyObject* self, void*) { return number_if(has(self, NK_IP), record_of(self).ip_word >> 28); }
PyObject* get_src(PyObject* self, void*) { return make_address(self, record_of(self).src); }
PyObject* get_dst(PyObject* self, void*) { return make_address(self, record_of(self).dst); }
PyObject* get_next_header(PyObject* self, void*) { return number_if(has(self, NK_IP), record_of(self).next_header); }
PyObject* get_protocol(PyObject* self, void*) { return number_if(has(self, NK_PROTOCOL), record_of(self).protocol); }
PyObject* get_src_port(PyObject* self, void*) { return number_if(has(self, NK_PORTS), record_of(self).src_port); }
PyObject* get_dst_port(PyObject* self, void*) { return number_if(has(self, NK_PORTS), record_of(self).dst_port); }
PyObject* get_tcp_flags(PyObject* self, void*) { return number_if(has(self, NK_TCP), record_of(self).tcp_flags); }
PyObject* get_icmp_type(PyObject* self, void*) { return number_if(has(self, NK_ICMP), record_of(self).src_port); }
PyObject* get_icmp_code(PyObject* self, void*) { return number_if(has(self, NK_ICMP), record_of(self).dst_port); }
PyObject* get_payload_len(PyObject* self, void*) { return number_if(has(self, NK_IP), record_of(self).payload_len); }
PyObject* get_hop_limit(PyObject* self, void*) { return number_if(has(self, NK_IP), record_of(self).hop_limit); }
PyObject* get_traffic_class(PyObject* self, void*) {
  return number_if(has(self, NK_IP), record_of(self).ip_word >> 20 & 0xff);
}
PyObject* get_flow_label(PyObject* self, void*) {
  return number_if(has(self, NK_IP) && !is_ipv4(self), record_of(self).ip_word & 0xfffff);
}
PyObject* get_fragment(PyObject* self, void*) {
  if (!has(self, NK_FRAGMENT)) Py_RETURN_NONE;
  static py::gil_safe_call_once_and_store<py::object> type;
  const unsigned fragment = record_of(self).fragment;
  try {
    return PyObject_CallFunction(imported(type, "netkit_bpf.event", "Fragment"), "IN", fragment & ~7U,
                                 PyBool_FromLong(fragment & 1));
  } catch (py::error_already_set& error) {
    error.restore();
    return nullptr;
  }
}
PyObject* get_length(PyObject* self, void*) { return number(record_of(self).length); }
PyObject* get_gso_segs(PyObject* self, void*) {
  const unsigned segments = record_of(self).gso_segs;
  return number(segments > 1 ? segments : 1);
}
PyObject* get_ethertype(PyObject* self, void*) { return number(record_of(self).ethertype); }
PyObject* get_vlan_id(PyObject* self, void*) { return number_if(has(self, NK_VLAN), record_of(self).vlan_tci & 0xfff); }

PyObject* get_data(PyObject* self, void*) {
  const std::string_view data = data_of(self);
  if (data.empty()) Py_RETURN_NONE;
  return PyBytes_FromStringAndSize(data.data(), static_cast<Py_ssize_t>(data.size()));
}

// The order is that of __match_args__, asdict() and the JSON object.
std::array<PyGetSetDef, 24> fields{{
    {"timestamp_ns", get_timestamp_ns, nullptr, "When the packet reached the hook: nanoseconds of Unix time.", nullptr},
    {"pair", get_pair, nullptr, "The name of the pair's primary when the monitor was attached.", nullptr},
    {"side", get_side, nullptr, "The Side whose hook saw the packet: the end that sent it.", nullptr},
    {"family", get_family, nullptr, "4 or 6; None if the packet is not IP or its IP header is not valid.", nullptr},
    {"src", get_src, nullptr, "The source as an ipaddress object, or None.", nullptr},
    {"dst", get_dst, nullptr, "The destination as an ipaddress object, or None.", nullptr},
    {"next_header", get_next_header, nullptr, "The protocol number in the IP header itself, or None.", nullptr},
    {"protocol", get_protocol, nullptr,
     "The protocol number after IPv6 extension headers; None where their chain is cut short.", nullptr},
    {"src_port", get_src_port, nullptr, "The source port of TCP, UDP, UDP-Lite, SCTP or DCCP, or None.", nullptr},
    {"dst_port", get_dst_port, nullptr, "The destination port, or None.", nullptr},
    {"tcp_flags", get_tcp_flags, nullptr, "The TCP flags, CWR (0x80) to FIN (0x01), or None.", nullptr},
    {"icmp_type", get_icmp_type, nullptr, "The type of an ICMP or ICMPv6 message, or None.", nullptr},
    {"icmp_code", get_icmp_code, nullptr, "The code of an ICMP or ICMPv6 message, or None.", nullptr},
    {"payload_len", get_payload_len, nullptr,
     "Bytes after the IP header, IPv6 extension headers included, as the header says it; from the skb for a "
     "packet too large for that field. None if not IP.",
     nullptr},
    {"hop_limit", get_hop_limit, nullptr, "The hop limit, or the time to live of IPv4, or None.", nullptr},
    {"traffic_class", get_traffic_class, nullptr, "The traffic class, or the type of service of IPv4, or None.",
     nullptr},
    {"flow_label", get_flow_label, nullptr, "The IPv6 flow label, or None.", nullptr},
    {"fragment", get_fragment, nullptr, "A Fragment(offset, more) if the packet is one, else None.", nullptr},
    {"length", get_length, nullptr, "Bytes of the skb, Ethernet header included, before segmentation.", nullptr},
    {"gso_segs", get_gso_segs, nullptr, "How many packets on a wire the skb stands for: 1 unless GSO.", nullptr},
    {"ethertype", get_ethertype, nullptr, "The EtherType after VLAN tags.", nullptr},
    {"vlan_id", get_vlan_id, nullptr, "The VLAN ID of the outermost tag, or None.", nullptr},
    {"data", get_data, nullptr,
     "The packet's first bytes, from the Ethernet header on: as many as snaplen says and the packet has. None "
     "where none were asked for.",
     nullptr},
    {},
}};

constexpr size_t field_count = fields.size() - 1;

PyObject* event_str(PyObject* self) {
  const std::string line = format_line(record_of(self));
  return PyUnicode_FromStringAndSize(line.data(), static_cast<Py_ssize_t>(line.size()));
}

PyObject* event_repr(PyObject* self) {
  const std::string line = format_line(record_of(self));
  return PyUnicode_FromFormat("<PacketEvent %U %s>", reinterpret_cast<PacketEvent*>(self)->pair, line.c_str());
}

PyObject* event_asdict(PyObject* self, PyObject*) {
  PyObject* dict = PyDict_New();
  for (size_t i = 0; dict != nullptr && i < field_count; ++i) {
    PyObject* value = fields.at(i).get(self, nullptr);
    if (value == nullptr || PyDict_SetItemString(dict, fields.at(i).name, value) != 0) Py_CLEAR(dict);
    Py_XDECREF(value);
  }
  return dict;
}

PyObject* event_to_json(PyObject* self, PyObject*) {
  static py::gil_safe_call_once_and_store<py::object> to_json;
  try {
    return PyObject_CallOneArg(imported(to_json, "netkit_bpf.event", "_to_json"), self);
  } catch (py::error_already_set& error) {
    error.restore();
    return nullptr;
  }
}

PyObject* make_event(std::span<const std::byte> record, int64_t clock_offset_ns, PyObject* pair) {
  nk_event copy{};
  std::memcpy(&copy, record.data(), sizeof(copy));
  // Room for as much as was asked for is in each record, also of a packet that is shorter.
  const std::span<const std::byte> data =
      record.subspan(sizeof(copy)).first(std::min<size_t>(record.size() - sizeof(copy), copy.length));
  auto* event = PyObject_NewVar(PacketEvent, event_type, static_cast<Py_ssize_t>(data.size()));
  if (event == nullptr) return nullptr;
  event->record = copy;
  event->record.timestamp += static_cast<uint64_t>(clock_offset_ns);
  event->pair = Py_NewRef(pair);
  if (!data.empty()) std::memcpy(event + 1, data.data(), data.size());
  return reinterpret_cast<PyObject*>(event);
}

bool is_event(size_t size) {
  if (size >= sizeof(nk_event)) return true;
  PyErr_Format(PyExc_ValueError, "a record has %zu bytes, not %zu: it is no packet event", sizeof(nk_event), size);
  return false;
}

// For pickling, and for tests that need no kernel: an event from the bytes of its record.
PyObject* event_from_record(PyObject*, PyObject* args) {
  const char* bytes = nullptr;
  Py_ssize_t size = 0;
  PyObject* pair = nullptr;
  if (PyArg_ParseTuple(args, "y#U", &bytes, &size, &pair) == 0) return nullptr;
  const std::span record(reinterpret_cast<const std::byte*>(bytes), static_cast<size_t>(size));
  return is_event(record.size()) ? make_event(record, 0, pair) : nullptr;
}

PyObject* event_reduce(PyObject* self, PyObject*) {
  PyObject* rebuild = PyObject_GetAttrString(reinterpret_cast<PyObject*>(Py_TYPE(self)), "_from_record");
  if (rebuild == nullptr) return nullptr;
  // The record and what follows it in memory.
  return Py_BuildValue("N(y#O)", rebuild, reinterpret_cast<const char*>(&record_of(self)),
                       static_cast<Py_ssize_t>(sizeof(nk_event)) + Py_SIZE(self),
                       reinterpret_cast<PacketEvent*>(self)->pair);
}

PyObject* event_richcompare(PyObject* self, PyObject* other, int operation) {
  if (Py_TYPE(other) != event_type || (operation != Py_EQ && operation != Py_NE)) Py_RETURN_NOTIMPLEMENTED;
  const int same_pair = PyObject_RichCompareBool(reinterpret_cast<PacketEvent*>(self)->pair,
                                                 reinterpret_cast<PacketEvent*>(other)->pair, Py_EQ);
  if (same_pair < 0) return nullptr;
  const bool same = same_pair == 1 && std::memcmp(&record_of(self), &record_of(other), sizeof(nk_event)) == 0 &&
                    data_of(self) == data_of(other);
  return PyBool_FromLong(same == (operation == Py_EQ) ? 1 : 0);
}

Py_hash_t event_hash(PyObject* self) {
  PyObject* bytes = PyBytes_FromStringAndSize(reinterpret_cast<const char*>(&record_of(self)), sizeof(nk_event));
  if (bytes == nullptr) return -1;
  const Py_hash_t hash = PyObject_Hash(bytes);
  Py_DECREF(bytes);
  return hash;
}

void event_dealloc(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  Py_DECREF(reinterpret_cast<PacketEvent*>(self)->pair);
  type->tp_free(self);
  Py_DECREF(type);
}

std::array<PyMethodDef, 5> methods{{
    {"asdict", event_asdict, METH_NOARGS, "All fields by name, in their order, as a new dict."},
    {"to_json", event_to_json, METH_NOARGS, "All fields as one JSON object in one line."},
    {"_from_record", event_from_record, METH_VARARGS | METH_STATIC, nullptr},
    {"__reduce__", event_reduce, METH_NOARGS, nullptr},
    {},
}};

std::array<PyType_Slot, 9> slots{{
    {Py_tp_dealloc, reinterpret_cast<void*>(event_dealloc)},
    {Py_tp_str, reinterpret_cast<void*>(event_str)},
    {Py_tp_repr, reinterpret_cast<void*>(event_repr)},
    {Py_tp_hash, reinterpret_cast<void*>(event_hash)},
    {Py_tp_richcompare, reinterpret_cast<void*>(event_richcompare)},
    {Py_tp_getset, fields.data()},
    {Py_tp_methods, methods.data()},
    {Py_tp_doc,
     const_cast<char*>(
         "One packet at a hook of a netkit pair. Immutable; any thread may use it.\n\n"
         "str(event) is a summary, \"[side] IPv6: src -> dst | next=… len=… ttl=…\": next is next_header, len is\n"
         "payload_len and ttl is hop_limit; of a packet that is not IP len is length. asdict() and to_json()\n"
         "give all fields. A field that does not apply is None.")},
    {},
}};

PyType_Spec spec{"netkit_bpf.PacketEvent", sizeof(PacketEvent), 1,
                 Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, slots.data()};

}  // namespace

PyObject* make_event(const Stream::View& record, PyObject* names) {
  if (!is_event(record.data.size())) return nullptr;
  const uint16_t pair = reinterpret_cast<const nk_event*>(record.data.data())->pair;
  if (pair >= PyTuple_GET_SIZE(names)) {
    PyErr_Format(PyExc_ValueError, "a packet event names pair %d of %zd", int{pair}, PyTuple_GET_SIZE(names));
    return nullptr;
  }
  return make_event(record.data, record.clock_offset_ns, PyTuple_GET_ITEM(names, pair));
}

void bind_event(py::module_& module) {
  const auto type = py::reinterpret_steal<py::object>(PyType_FromSpec(&spec));
  if (!type) throw py::error_already_set();
  py::tuple names(field_count);
  for (size_t i = 0; i < field_count; ++i) names[i] = py::str(fields.at(i).name);
  type.attr("__match_args__") = names;
  module.attr("PacketEvent") = type;
  event_type = reinterpret_cast<PyTypeObject*>(type.inc_ref().ptr());
}

}  // namespace netkit_bpf::python
