// SPDX-License-Identifier: MIT
#include "bpf/map.hpp"

#include <pybind11/stl.h>

#include <memory>

#include "python/bindings.hpp"
#include "python/gil.hpp"

namespace py = pybind11;

namespace netkit_bpf::python {

namespace {

// Runs a system call without the GIL. Its arguments are immutable bytes that the caller holds.
template <typename F>
auto without_gil(F ask) {
  const WithoutGil release;
  return ask();
}

py::object to_object(const std::optional<Map::Data>& data) { return data ? py::object(to_bytes(*data)) : py::none(); }

}  // namespace

py::tuple to_tuple(const MapInfo& info) {
  return py::make_tuple(info.id, info.type, info.key_size, info.value_size, info.max_entries, info.flags,
                        to_text(info.name), info.btf, info.key_type, info.value_type);
}

void bind_map(py::module_& module) {
  using no_gil = py::call_guard<WithoutGil>;
  // A lookup takes some hundred nanoseconds, and no lock that is held for long, so it keeps the GIL.
  py::class_<Map, std::shared_ptr<Map>>(module, "Map")
      .def_static(
          "open_pinned", [](const std::string& path) { return std::make_shared<Map>(Map::open_pinned(path)); },
          py::arg("path"))
      .def_static(
          "open_id", [](uint32_t id) { return std::make_shared<Map>(Map::open_id(id)); }, py::arg("id"))
      .def_static(
          "create",
          [](uint32_t type, const std::string& name, uint32_t max_entries, uint32_t key_size, uint32_t value_size,
             uint32_t flags, const Map* inner) {
            return std::make_shared<Map>(Map::create({.type = type,
                                                      .key_size = key_size,
                                                      .value_size = value_size,
                                                      .max_entries = max_entries,
                                                      .flags = flags,
                                                      .name = name},
                                                     inner));
          },
          py::arg("type"), py::arg("name"), py::arg("max_entries"), py::arg("key_size") = 0, py::arg("value_size") = 0,
          py::arg("flags") = 0, py::arg("inner") = nullptr, no_gil())
      .def("fileno", &Map::fd)
      .def("info", [](const Map& map) { return to_tuple(map.info()); })
      .def("value_room", &Map::value_room)
      .def(
          "lookup", [](const Map& map, const py::bytes& key) { return to_object(map.lookup(view(key))); },
          py::arg("key"))
      .def(
          "take", [](const Map& map, const py::bytes& key) { return to_object(map.take(view(key))); }, py::arg("key"))
      .def(
          "may_hold", [](const Map& map, const py::bytes& value) { return map.may_hold(view(value)); },
          py::arg("value"))
      .def(
          "update",
          [](const Map& map, const py::bytes& key, const py::bytes& value, uint64_t flags) {
            const Bytes raw_key = view(key);
            const Bytes raw_value = view(value);
            return without_gil([&] { return map.update(raw_key, raw_value, flags); });
          },
          py::arg("key"), py::arg("value"), py::arg("flags"))
      .def(
          "erase", [](const Map& map, const py::bytes& key) { return map.erase(view(key)); }, py::arg("key"))
      .def(
          "next_key", [](const Map& map, const py::bytes& key) { return to_object(map.next_key(view(key))); },
          py::arg("key"))
      .def("pin", &Map::pin, py::arg("path"), no_gil())
      .def("unpin", &Map::unpin, py::arg("path"), no_gil())
      .def("read_all",
           [](const Map& map) {
             const MapElements elements = without_gil([&] { return read_all(map); });
             return py::make_tuple(to_bytes(elements.keys), to_bytes(elements.values));
           })
      .def(
          "sum_over_cpus", [](const Map& map) { return sum_over_cpus(map); }, no_gil())
      .def(
          "write_all",
          [](const Map& map, const py::bytes& keys, const py::bytes& values) {
            const Bytes raw_keys = view(keys);
            const Bytes raw_values = view(values);
            without_gil([&] { write_all(map, raw_keys, raw_values); });
          },
          py::arg("keys"), py::arg("values"))
      .def(
          "erase_all",
          [](const Map& map, const py::bytes& keys) {
            const Bytes raw = view(keys);
            return without_gil([&] { return erase_all(map, raw); });
          },
          py::arg("keys"));
}

}  // namespace netkit_bpf::python
