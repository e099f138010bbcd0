// SPDX-License-Identifier: MIT
// The records of the users' own programs, many at once.
#include "ring/records.hpp"

#include <pybind11/stl.h>

#include <cstddef>
#include <optional>
#include <string>

#include "python/bindings.hpp"
#include "python/events/stream.hpp"

namespace py = pybind11;

namespace netkit_bpf::python {

namespace {

// Appends the records of a slice. Stops at a record of another size, and returns it.
std::optional<Record> append(std::string& data, const Slice& slice, size_t size) {
  data.reserve(data.size() + slice.records * size);
  for (const Record& record : Records(slice.run)) {
    if (record.data().size() != size) return record;
    data.append(reinterpret_cast<const char*>(record.data().data()), size);
  }
  return std::nullopt;
}

// The data of the waiting records, at most `most`, one behind the other; each has `size` bytes. Waits for the first;
// empty on time-out and at the end. It ends before a record of another size; the next call throws the error.
py::bytes read_records(PyStream& stream, size_t most, std::optional<double> timeout, size_t size) {
  std::string data;
  size_t records = 0;
  PyStream::Taking taking(stream);
  std::optional<Slice> slice = stream.take(taking, most, deadline_after(timeout), 2);
  while (slice) {
    const std::optional<Record> bad = append(data, *slice, size);
    if (bad) {
      const bool is_first = data.empty();
      const auto taken = static_cast<size_t>((is_first ? bad->end() : bad->start) - slice->run.data());
      stream.put_back({*slice}, 0, taken);
      if (!is_first) break;
      throw py::value_error("a record of " + std::to_string(bad->data().size()) + " bytes does not fit a type of " +
                            std::to_string(size) + " bytes");
    }
    records += slice->records;
    slice = records < most ? stream.take_waiting(taking, most - records) : std::nullopt;
  }
  return {data};
}

}  // namespace

void bind_records(py::module_& module) {
  module.def("read_records", &read_records, py::arg("stream"), py::arg("most"), py::arg("timeout"), py::arg("size"));
}

}  // namespace netkit_bpf::python
