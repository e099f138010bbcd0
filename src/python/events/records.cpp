// SPDX-License-Identifier: MIT
// The records of the users' own programs, many at once.
#include <pybind11/stl.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>

#include "python/bindings.hpp"
#include "python/events/stream.hpp"
#include "ring/ring.hpp"

namespace py = pybind11;

namespace netkit_bpf::python {

namespace {

void append(std::string& data, const Slice& slice, size_t size) {
  data.reserve(data.size() + slice.records * size);
  for (size_t at = 0; at < slice.run.size();) {
    uint32_t header = 0;
    std::memcpy(&header, &slice.run[at], sizeof(header));
    const std::byte* record = &slice.run[at] + Record::header_size;
    at += Record::stride(header);
    if ((header & Record::discard_bit) != 0) continue;
    if (Record::length(header) != size)
      throw py::value_error("a record of " + std::to_string(Record::length(header)) + " bytes is not of a type of " +
                            std::to_string(size) + " bytes");
    data.append(reinterpret_cast<const char*>(record), size);
  }
}

// What is in the records that wait, `most` at most, one behind the other; each has `size` bytes. Waits for the first;
// nothing on time-out and at the end.
py::bytes read_records(PyStream& stream, size_t most, std::optional<double> timeout, size_t size) {
  std::string data;
  size_t records = 0;
  Deadline deadline = deadline_after(timeout);
  while (records < most) {
    const std::optional<Slice> slice = stream.take(most - records, deadline, 2);
    if (!slice) break;
    append(data, *slice, size);
    records += slice->records;
    deadline = deadline_after(0.0);
  }
  return {data};
}

}  // namespace

void bind_records(py::module_& module) {
  module.def("read_records", &read_records, py::arg("stream"), py::arg("most"), py::arg("timeout"), py::arg("size"));
}

}  // namespace netkit_bpf::python
