// SPDX-License-Identifier: MIT
// Tables of flows: their memory as a Python buffer, their rows as tuples, their columns as Arrow's capsules.
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "flows/flow_arrow.hpp"
#include "flows/flow_reader.hpp"
#include "flows/flow_table.hpp"
#include "observer/observer.hpp"
#include "python/bindings.hpp"
#include "python/events/capsule.hpp"
#include "python/gil.hpp"

namespace py = pybind11;

namespace netkit_bpf::python {

namespace {

const FlowField& field_named(const std::string& name) {
  for (const FlowField& field : flow_fields::all)
    if (name == field.name) return field;
  throw py::key_error(name);
}

// How numpy finds the fields in a row: what numpy.dtype() takes.
py::dict row_dtype() {
  py::list names;
  py::list formats;
  py::list offsets;
  for (const FlowField& field : flow_fields::all) {
    names.append(field.name);
    offsets.append(field.offset);
    if (field.type == FlowField::Type::address)
      formats.append("S16");  // not V16: pandas takes no such column
    else if (field.type == FlowField::Type::time)
      formats.append("i8");
    else
      formats.append("u" + std::to_string(field.size));
  }
  names.append("flags");
  offsets.append(offsetof(FlowRow, known));
  formats.append("u2");
  py::dict dtype;
  dtype["names"] = names;
  dtype["formats"] = formats;
  dtype["offsets"] = offsets;
  dtype["itemsize"] = sizeof(FlowRow);
  return dtype;
}

// By the name of each field that does not always apply: the bit of `flags` that says so.
py::dict row_flags() {
  py::dict flags;
  for (const FlowField& field : flow_fields::all)
    if (field.known != 0) flags[field.name] = field.known;
  return flags;
}

// The fields in their order; None where one does not apply. Addresses are bytes, a side is its number.
py::tuple to_tuple(const FlowRow& row, const FlowTable::Names& names) {
  py::tuple tuple(flow_fields::all.size());
  for (size_t i = 0; i < flow_fields::all.size(); ++i) {
    const FlowField& field = flow_fields::all.at(i);
    const auto* bytes = reinterpret_cast<const char*>(&row) + field.offset;
    uint64_t value = 0;
    if (field.type != FlowField::Type::address) std::memcpy(&value, bytes, field.size);
    if (field.known != 0 && (row.known & field.known) == 0)
      tuple[i] = py::none();
    else if (field.type == FlowField::Type::address)
      tuple[i] = py::bytes(bytes, row.identity.family == 6 ? 16 : 4);
    else if (field.type == FlowField::Type::pair)
      tuple[i] = to_text(names->at(value));
    else if (field.type == FlowField::Type::time)
      tuple[i] = py::int_(static_cast<int64_t>(value));
    else
      tuple[i] = py::int_(value);
  }
  return tuple;
}

// Calls what needs nothing of Python without the GIL.
template <typename F>
FlowTable without_gil(F&& f) {
  const WithoutGil release;
  return std::forward<F>(f)();
}

using Bits = std::array<uint8_t, 2>;

FlowTable by(const FlowTable& table, const std::vector<std::string>& names, Bits src_bits, Bits dst_bits,
             const std::vector<std::pair<py::bytes, uint8_t>>& networks) {
  FlowGrouping grouping{.known = 0, .networks = {}, .src_bits = src_bits, .dst_bits = dst_bits};
  for (const auto& [address, bits] : networks) {
    const auto bytes = view(address);
    FlowNetwork& network = grouping.networks.emplace_back();
    network.family = bytes.size() == network.address.size() ? 6 : 4;
    network.bits = bits;
    std::copy_n(bytes.begin(), std::min(bytes.size(), network.address.size()), network.address.begin());
  }
  for (const std::string& name : names) grouping.known |= field_named(name).known;
  return without_gil([&] { return table.by(grouping); });
}

using Observers = std::vector<std::shared_ptr<Observer>>;

std::unique_ptr<FlowReader> make_reader(int sets, int evicted, int unattributed, const std::vector<std::string>& names,
                                        size_t most_flows, uint64_t jiffies, int64_t monotonic_ns,
                                        const Observers& observers) {
  FlowReader::Options options{.sets = sets,
                              .evicted = evicted,
                              .unattributed = unattributed,
                              .names = std::make_shared<const std::vector<std::string>>(names),
                              .most_flows = most_flows,
                              .jiffies = jiffies,
                              .monotonic_ns = monotonic_ns,
                              .checks = {}};
  for (const auto& observer : observers) options.checks.emplace_back([observer] { observer->check(); });
  return std::make_unique<FlowReader>(std::move(options));
}

py::buffer_info buffer_of(const FlowTable& table) {
  const auto bytes = std::as_bytes(table.rows());
  return {const_cast<std::byte*>(bytes.data()), 1, "B", static_cast<py::ssize_t>(bytes.size()), true};
}

FlowTable from_rows(const py::bytes& rows, const std::vector<std::string>& names) {
  const auto bytes = view(rows);
  if (bytes.size() % sizeof(FlowRow) != 0) throw py::value_error("these bytes are not whole rows of flows");
  std::vector<FlowRow> own(bytes.size() / sizeof(FlowRow));
  std::memcpy(own.data(), bytes.data(), bytes.size());
  for (const FlowRow& row : own)
    if (row.identity.pair >= names.size()) throw py::value_error("a row is of a pair without a name");
  return {std::move(own), std::make_shared<const std::vector<std::string>>(names)};
}

}  // namespace

void bind_flows(py::module_& module) {
  using no_gil = py::call_guard<WithoutGil>;
  module.attr("FLOW_SET_SIZE") = sizeof(nk_flow_set);
  module.attr("FLOW_WAYS") = NK_FLOW_WAYS;
  module.def("flow_dtype", &row_dtype);
  module.def("flow_flags", &row_flags);
  py::class_<FlowTable>(module, "FlowTable", py::buffer_protocol())
      .def_buffer(&buffer_of)
      .def_static("from_rows", &from_rows, py::arg("rows"), py::arg("names"))
      .def("__len__", &FlowTable::size)
      .def_property_readonly("names",
                             [](const FlowTable& table) {
                               py::tuple names(table.names()->size());
                               for (size_t i = 0; i < names.size(); ++i) names[i] = to_text(table.names()->at(i));
                               return names;
                             })
      .def(
          "row",
          [](const FlowTable& table, size_t index) {
            if (index >= table.size()) throw py::index_error("there is no such row");
            return to_tuple(table[index], table.names());
          },
          py::arg("index"))
      .def("total", [](const FlowTable& table) { return to_tuple(table.total(), table.names()); })
      .def("by", &by, py::arg("names"), py::arg("src_bits"), py::arg("dst_bits"), py::arg("networks"))
      .def("matching", &FlowTable::matching, py::arg("other"), no_gil())
      .def("since", &FlowTable::since, py::arg("earlier"), no_gil())
      .def(
          "top",
          [](const FlowTable& table, size_t count, const std::string& name) {
            const FlowField& field = field_named(name);
            return without_gil([&] { return table.top(count, field); });
          },
          py::arg("count"), py::arg("field"))
      .def("slice", &FlowTable::slice, py::arg("first"), py::arg("step"), py::arg("size"), no_gil())
      .def("arrow_schema",
           [](const FlowTable&) {
             return capsule<ArrowSchema>("arrow_schema", [](ArrowSchema* out) { flow_arrow::export_schema(out); });
           })
      .def("arrow_array",
           [](const FlowTable& table) {
             return capsule<ArrowArray>("arrow_array", [&](ArrowArray* out) {
               const WithoutGil release;
               flow_arrow::export_array(table, out);
             });
           })
      .def("arrow_stream", [](const FlowTable& table) {
        return capsule<ArrowArrayStream>("arrow_array_stream",
                                         [&](ArrowArrayStream* out) { flow_arrow::export_stream(table, out); });
      });
  py::class_<FlowReader>(module, "FlowReader")
      .def(py::init(&make_reader), py::arg("sets"), py::arg("evicted"), py::arg("unattributed"), py::arg("names"),
           py::arg("most_flows"), py::arg("jiffies"), py::arg("monotonic_ns"), py::arg("observers"))
      .def("snapshot", &FlowReader::snapshot, no_gil())
      .def("close", &FlowReader::close, no_gil());
}

}  // namespace netkit_bpf::python
