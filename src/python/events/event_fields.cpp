// SPDX-License-Identifier: MIT
#define PY_SSIZE_T_CLEAN  // before Python.h: lengths of "y#" are Py_ssize_t
#include "python/events/event_fields.hpp"

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>

#include "python/events/event.hpp"
#include "python/gil.hpp"

namespace py = pybind11;

namespace netkit_bpf::python {

namespace {

constexpr uint64_t golden_ratio = 0x9e3779b97f4a7c15;  // mixes

bool has(PyObject* self, unsigned flags) { return (record_of(self).flags & flags) != 0; }
bool is_ipv4(PyObject* self) { return record_of(self).ip_word >> 28 == 4; }

// Objects made lately, to be handed out again: of the values of a field there are few in most traffic, and an address
// takes Python half a microsecond to make. Without the GIL two threads could get into each other's way; there nothing
// is kept.
template <typename Value, size_t size>
class Recent {
 public:
  // Finds the object of a value or has it made. A new reference, or null with an exception set.
  template <typename Make>
  PyObject* get(const Value& value, size_t hash, const Make& make) {
#ifndef Py_GIL_DISABLED
    Entry& entry = entries_[hash % size];
    if (entry.object != nullptr && entry.value == value) return Py_NewRef(entry.object);
    PyObject* object = make();
    if (object == nullptr) return nullptr;
    entry.value = value;
    Py_XSETREF(entry.object, Py_NewRef(object));
    return object;
#else
    return make();
#endif
  }

 private:
  struct Entry {
    Value value;
    PyObject* object;
  };
  std::array<Entry, size> entries_;
};

PyObject* number(unsigned long value) {
  static Recent<unsigned long, 1024> recent;
  return recent.get(value, value, [value] { return PyLong_FromUnsignedLong(value); });
}
PyObject* number_if(bool applies, unsigned long value) {
  if (!applies) Py_RETURN_NONE;
  return number(value);
}

PyObject* make_address(const char* bytes, bool is_ipv4) {
  static Imported ipv4("ipaddress", "IPv4Address");
  static Imported ipv6("ipaddress", "IPv6Address");
  PyObject* const type = (is_ipv4 ? ipv4 : ipv6).get();
  if (type == nullptr) return nullptr;
  return call_python([&] { return PyObject_CallFunction(type, "y#", bytes, Py_ssize_t{is_ipv4 ? 4 : 16}); });
}

PyObject* address(PyObject* self, const __u8 (&bytes)[16]) {
  if (!has(self, NK_IP)) Py_RETURN_NONE;
  struct Address {
    std::array<uint64_t, 2> halves;
    bool is_ipv4;
    bool operator==(const Address&) const = default;
  };
  static Recent<Address, 512> recent;
  Address value{{}, is_ipv4(self)};
  std::memcpy(value.halves.data(), &bytes[0], sizeof(bytes));
  // The ends of the address decide most: they go where each changes the bits that count.
  const size_t hash = (value.halves[0] ^ std::rotl(value.halves[1], 32)) * golden_ratio >> 48;
  return recent.get(value, hash, [&] { return make_address(reinterpret_cast<const char*>(&bytes[0]), value.is_ipv4); });
}

PyObject* get_timestamp_ns(PyObject* self, void*) { return PyLong_FromUnsignedLongLong(record_of(self).timestamp); }
PyObject* get_pair_name(PyObject* self, void*) { return Py_NewRef(reinterpret_cast<PacketEvent*>(self)->pair); }
PyObject* get_side(PyObject* self, void*) {
  static Imported primary("netkit_bpf.enums", "Side", "PRIMARY");
  static Imported peer("netkit_bpf.enums", "Side", "PEER");
  return Py_XNewRef((record_of(self).side == NK_PRIMARY ? primary : peer).get());
}
PyObject* get_family(PyObject* self, void*) { return number_if(has(self, NK_IP), record_of(self).ip_word >> 28); }
PyObject* get_src(PyObject* self, void*) { return address(self, record_of(self).src); }
PyObject* get_dst(PyObject* self, void*) { return address(self, record_of(self).dst); }
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
  static Imported fragment_type("netkit_bpf.events.event", "Fragment");
  PyObject* const type = fragment_type.get();
  if (type == nullptr) return nullptr;
  const unsigned fragment = record_of(self).fragment;
  return call_python([&] { return PyObject_CallFunction(type, "IN", fragment & ~7U, PyBool_FromLong(fragment & 1)); });
}
PyObject* get_length(PyObject* self, void*) { return number(record_of(self).length); }
PyObject* get_gso_segs(PyObject* self, void*) {
  const unsigned segments = record_of(self).gso_segs;
  return number(segments > 1 ? segments : 1);
}
PyObject* get_ethertype(PyObject* self, void*) { return number(record_of(self).ethertype); }
PyObject* get_vlan_id(PyObject* self, void*) { return number_if(has(self, NK_VLAN), record_of(self).vlan_tci & 0xfff); }

PyObject* get_data(PyObject* self, void*) {
  if (Py_SIZE(self) == 0) Py_RETURN_NONE;
  return PyBytes_FromStringAndSize(data_of(self), Py_SIZE(self));
}

std::array<PyGetSetDef, 24> fields{{
    {"timestamp_ns", get_timestamp_ns, nullptr, "When the packet reached the hook: nanoseconds of Unix time.", nullptr},
    {"pair_name", get_pair_name, nullptr, "The name of the pair's primary when the monitor was attached.", nullptr},
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

// Where the interned name of a field is found by its address, without a collision.
struct Entry {
  PyObject* name;
  getter get;
};
constexpr unsigned index_bits = 7;
std::array<Entry, 1 << index_bits> entries;  // made once with the module, never changed
uint64_t multiplier = 0;

size_t index_of(PyObject* name) { return reinterpret_cast<uintptr_t>(name) * multiplier >> (64 - index_bits); }

bool fill_entries(const py::tuple& names) {
  entries = {};
  for (size_t i = 0; i < names.size(); ++i) {
    PyObject* name = PyTuple_GET_ITEM(names.ptr(), static_cast<Py_ssize_t>(i));
    Entry& entry = entries.at(index_of(name));
    if (entry.name != nullptr) return false;
    entry = {name, fields.at(i).get};
  }
  return true;
}

}  // namespace

PyGetSetDef* event_fields() { return fields.data(); }

py::tuple name_event_fields() {
  py::tuple names(fields.size() - 1);
  for (size_t i = 0; i < names.size(); ++i)
    names[i] = py::reinterpret_steal<py::object>(PyUnicode_InternFromString(fields.at(i).name));
  names.inc_ref();  // the entries refer to them for good
  do multiplier += golden_ratio;
  while ((multiplier & 1) == 0 || !fill_entries(names));
  return names;
}

PyObject* get_event_field(PyObject* self, PyObject* name) {
  const Entry& entry = entries[index_of(name)];
  return entry.name == name ? entry.get(self, nullptr) : PyObject_GenericGetAttr(self, name);
}

}  // namespace netkit_bpf::python
