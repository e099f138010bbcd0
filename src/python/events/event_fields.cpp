// SPDX-License-Identifier: MIT
#include "python/events/event_fields.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstdint>
#include <cstring>

#include "events/fields.hpp"
#include "python/events/packet_event.hpp"
#include "python/gil.hpp"

namespace py = pybind11;

namespace netkit_bpf::python {

namespace {

constexpr uint64_t golden_ratio = 0x9e3779b97f4a7c15;  // mixes

// A cache of recent objects: in most traffic a field has few distinct values, and making an address takes Python half a
// microsecond. Without the GIL two threads could interfere, so nothing is cached there.
template <typename Value, size_t size>
class Recent {
 public:
  // Finds the object for a value, or makes it. A new reference, or null with an exception set.
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
PyObject* make_address(const char* bytes, bool is_ipv4) {
  static Imported ipv4("ipaddress", "IPv4Address");
  static Imported ipv6("ipaddress", "IPv6Address");
  PyObject* const type = (is_ipv4 ? ipv4 : ipv6).get();
  if (type == nullptr) return nullptr;
  return call_python([&] { return PyObject_CallFunction(type, "y#", bytes, Py_ssize_t{is_ipv4 ? 4 : 16}); });
}

PyObject* address(const std::byte* bytes, bool is_ipv4) {
  struct Address {
    std::array<uint64_t, 2> halves;
    bool is_ipv4;
    bool operator==(const Address&) const = default;
  };
  static Recent<Address, 512> recent;
  Address value{{}, is_ipv4};
  std::memcpy(value.halves.data(), bytes, sizeof(value.halves));
  // The ends of addresses vary most: they are placed so that each changes the significant bits.
  const size_t hash = (value.halves[0] ^ std::rotl(value.halves[1], 32)) * golden_ratio >> 48;
  return recent.get(value, hash, [&] { return make_address(reinterpret_cast<const char*>(bytes), is_ipv4); });
}

// Python objects that each stand for a small number, made on first use and kept for ever.
template <size_t size>
class Symbols {
 public:
  // `maker` makes the object for a number.
  constexpr explicit Symbols(const char* maker) : maker_("netkit_bpf.events.event", maker) {}

  // A new reference, or null with an exception set.
  PyObject* get(size_t number) {
    PyObject* symbol = symbols_.at(number).load(std::memory_order_acquire);
    return Py_XNewRef(symbol != nullptr ? symbol : make(number));
  }

 private:
  PyObject* make(size_t number) {
    PyObject* const maker = maker_.get();
    if (maker == nullptr) return nullptr;
    PyObject* made = call_python([&] { return PyObject_CallFunction(maker, "n", static_cast<Py_ssize_t>(number)); });
    PyObject* found = nullptr;
    if (made == nullptr || symbols_.at(number).compare_exchange_strong(found, made, std::memory_order_acq_rel))
      return made;
    Py_DECREF(made);  // another thread was faster
    return found;
  }

  Imported maker_;
  std::array<std::atomic<PyObject*>, size> symbols_{};
};

PyObject* side(uint8_t number) {
  static Imported primary("netkit_bpf.enums", "Side", "PRIMARY");
  static Imported peer("netkit_bpf.enums", "Side", "PEER");
  return Py_XNewRef((number == NK_PRIMARY ? primary : peer).get());
}
PyObject* protocol(uint8_t number) {
  static Symbols<256> protocols("_protocol");
  return protocols.get(number);
}
PyObject* tcp_flags(uint8_t bits) {
  static Symbols<256> flags("TCPFlags");
  return flags.get(bits);
}

PyObject* fragment(unsigned value) {
  static Imported fragment_type("netkit_bpf.events.event", "Fragment");
  PyObject* const type = fragment_type.get();
  if (type == nullptr) return nullptr;
  return call_python([&] { return PyObject_CallFunction(type, "IN", value & ~7U, PyBool_FromLong(value & 1)); });
}

bool is_ipv4(const nk_event& event) { return event.ip_word >> 28 == 4; }

template <Validity validity>
bool applies(const nk_event& event) {
  if constexpr (validity == Validity::always) return true;
  return (event.flags & flag_of(validity)) != 0 && (validity != Validity::ipv6 || !is_ipv4(event));
}

// Where a field lies in a record, if it is not decoded.
template <size_t i>
const std::byte* place_of(const nk_event& event) {
  return reinterpret_cast<const std::byte*>(&event) + fields::all[i].offset - Record::header_size;
}

template <size_t i>
uint32_t value_of(const nk_event& event) {
  constexpr Field field = fields::all[i];
  if constexpr (field.decode != nullptr) {
    return field.decode(event);
  } else {
    static_assert(field.offset >= Record::header_size && field.size <= sizeof(uint32_t));
    uint32_t value = 0;
    std::memcpy(&value, place_of<i>(event), field.size);  // of the lower bytes
    static_assert(std::endian::native == std::endian::little);
    return value;
  }
}

// The attribute of field number i: no look-up, because each has its own function.
template <size_t i>
PyObject* get(PyObject* self, void*) {
  constexpr Field field = fields::all[i];
  using Type = Field::Type;
  const nk_event& event = record_of(self);
  if (!applies<field.validity>(event)) Py_RETURN_NONE;
  if constexpr (field.type == Type::time) {
    return PyLong_FromUnsignedLongLong(event.timestamp);
  } else if constexpr (field.type == Type::pair) {
    return Py_NewRef(reinterpret_cast<PacketEvent*>(self)->pair);
  } else if constexpr (field.type == Type::side) {
    return side(event.side);
  } else if constexpr (field.type == Type::address) {
    return address(place_of<i>(event), is_ipv4(event));
  } else if constexpr (field.type == Type::protocol) {
    return protocol(static_cast<uint8_t>(value_of<i>(event)));
  } else if constexpr (field.type == Type::tcp_flags) {
    return tcp_flags(static_cast<uint8_t>(value_of<i>(event)));
  } else if constexpr (field.type == Type::fragment) {
    return fragment(value_of<i>(event));
  } else if constexpr (field.type == Type::data) {
    if (Py_SIZE(self) == 0) Py_RETURN_NONE;
    return PyBytes_FromStringAndSize(data_of(self), Py_SIZE(self));
  } else {
    static_assert(field.type == Type::number);
    return number(value_of<i>(event));
  }
}

constexpr size_t field_count = fields::count_of<Field::event>();

consteval std::array<PyGetSetDef, field_count + 1> make_getters() {
  std::array<PyGetSetDef, field_count + 1> getters{};
  const auto made = fields::for_each_of<Field::event>(
      []<size_t i> { return PyGetSetDef{fields::all[i].name, get<i>, nullptr, fields::all[i].doc, nullptr}; });
  std::ranges::copy(made, getters.begin());
  return getters;
}

// NOLINTNEXTLINE(bugprone-throwing-static-initialization,cert-err58-cpp): constinit, so nothing runs
constinit std::array<PyGetSetDef, field_count + 1> getters = make_getters();

// An entry of the table that finds a field by the address of its interned name, without collisions.
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
    entry = {name, getters.at(i).get};
  }
  return true;
}

}  // namespace

PyGetSetDef* event_fields() { return getters.data(); }

py::tuple name_event_fields() {
  py::tuple names(field_count);
  for (size_t i = 0; i < names.size(); ++i)
    names[i] = py::reinterpret_steal<py::object>(PyUnicode_InternFromString(getters.at(i).name));
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
