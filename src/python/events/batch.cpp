// SPDX-License-Identifier: MIT
// Batches of events: their memory as a Python buffer, their table as Arrow capsules.
#include "python/events/batch.hpp"

#include <pybind11/stl.h>

#include <array>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "events/arrow_table.hpp"
#include "events/fields.hpp"
#include "python/bindings.hpp"
#include "python/events/capsule.hpp"
#include "python/events/event.hpp"
#include "python/events/stream.hpp"
#include "python/gil.hpp"
#include "python/iterator.hpp"
#include "python/mutex.hpp"

namespace py = pybind11;

namespace netkit_bpf::python {

namespace {

std::span<const std::byte> bytes_of(const py::buffer_info& info) {
  return {static_cast<const std::byte*>(info.ptr), static_cast<size_t>(info.size * info.itemsize)};
}

EventBatch::Names to_names(const py::tuple& names) {
  return std::make_shared<const std::vector<std::string>>(names.cast<std::vector<std::string>>());
}

py::tuple from_names(const EventBatch::Names& names) {
  py::tuple tuple(names->size());
  for (size_t i = 0; i < names->size(); ++i) tuple[i] = py::str((*names)[i]);
  return tuple;
}

// Both copy. `data` has the packet data of each row, or is None.
PyEventBatch from_rows(const py::buffer& rows, const std::optional<std::vector<py::bytes>>& data,
                       const py::tuple& names) {
  const py::buffer_info info = rows.request();
  std::vector<EventBatch::Data> spans;
  for (const py::bytes& each : data.value_or(std::vector<py::bytes>()))
    spans.push_back(std::as_bytes(std::span(std::string_view(each))));
  const auto given = data ? std::optional<std::span<const EventBatch::Data>>(spans) : std::nullopt;
  return {EventBatch::from_rows(bytes_of(info), given, to_names(names)), names};
}

PyEventBatch from_records(const py::buffer& records, bool with_data, int64_t clock_offset_ns, const py::tuple& names) {
  const py::buffer_info info = records.request();
  const std::span<const std::byte> bytes = bytes_of(info);
  std::vector<std::byte> copy(bytes.begin(), bytes.end());
  const EventBatch::Input input{copy, clock_offset_ns};
  EventBatch::Refused refused;
  EventBatch made(std::span(&input, 1), with_data, to_names(names), refused);
  if (!refused.why.empty()) throw py::value_error(refused.why);
  return {std::move(made), names};
}

struct BatchIterator {
  static constexpr const char* name = "netkit_bpf._core.BatchIterator";

  PyObject* next() {
    size_t row = 0;
    {
      const std::lock_guard lock(mutex);
      if (following == batch.batch().size()) return nullptr;
      row = following++;
    }
    return batch.event(row);
  }

  py::object owner;  // Python's object of the batch
  const PyEventBatch& batch;
  Mutex mutex{};
  size_t following = 0;
};

py::object make_iterator(const py::object& batch) {
  return Iterator<BatchIterator>::make(batch, batch.cast<const PyEventBatch&>());
}

py::object event(const PyEventBatch& batch, size_t index) {
  if (index >= batch.batch().size()) throw py::index_error("there is no such row");
  PyObject* event = batch.event(index);
  if (event == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(event);
}

py::bytes data(const PyEventBatch& batch, size_t index) {
  if (index >= batch.batch().size()) throw py::index_error("there is no such row");
  const EventBatch::Data data = batch.batch().data(index);
  return {reinterpret_cast<const char*>(data.data()), data.size()};
}

// Calls a function that uses nothing of Python, without the GIL.
template <typename F>
EventBatch without_gil(F&& f) {
  const WithoutGil release;
  return std::forward<F>(f)();
}

PyEventBatch slice(const PyEventBatch& batch, size_t first, ptrdiff_t step, size_t size) {
  return {without_gil([&] { return batch.batch().slice(first, step, size); }), batch.names()};
}

PyEventBatch select(const PyEventBatch& batch, const py::buffer& mask) {
  const py::buffer_info info = mask.request();
  if (bytes_of(info).size() != batch.batch().size()) throw py::index_error("the mask has another length");
  return {without_gil([&] { return batch.batch().select(bytes_of(info)); }), batch.names()};
}

PyEventBatch concat(const std::vector<const PyEventBatch*>& parts) {
  std::vector<EventBatch> batches;
  batches.reserve(parts.size());
  for (const PyEventBatch* part : parts) batches.push_back(part->batch());
  EventBatch whole = without_gil([&] { return EventBatch::concat(batches); });
  py::tuple names = from_names(whole.names());
  return {std::move(whole), std::move(names)};
}

EventBatch to_batch(std::span<const Slice> slices, bool with_data, const EventBatch::Names& names,
                    EventBatch::Refused& refused) {
  // A few records must not keep the memory of many alive.
  if (!with_data && slices.size() == 1 && slices[0].run.size() >= slices[0].block->memory.size() / 2)
    return {{slices[0].run, slices[0].clock_offset_ns}, slices[0].block, names, refused};
  std::vector<EventBatch::Input> inputs;
  inputs.reserve(slices.size());
  for (const Slice& slice : slices) inputs.push_back({slice.run, slice.clock_offset_ns});
  return {inputs, with_data, names, refused};
}

std::string numpy_format(const Field& field) {
  switch (field.type) {
    case Field::Type::time:
      return "i8";
    case Field::Type::address:
      return "S16";  // not V16: pandas takes no such column
    case Field::Type::truth:
      return "?";
    default:
      return "u" + std::to_string(field.size);
  }
}

// How numpy finds the fields in a row: what numpy.dtype() takes.
py::dict row_dtype() {
  py::list names;
  py::list formats;
  py::list offsets;
  for (const size_t i : fields::numbers_of<Field::array>()) {
    const Field& field = fields::all.at(i);
    names.append(field.name);
    offsets.append(field.offset);
    formats.append(numpy_format(field));
  }
  py::dict dtype;
  dtype["names"] = names;
  dtype["formats"] = formats;
  dtype["offsets"] = offsets;
  dtype["itemsize"] = sizeof(Row);
  return dtype;
}

// By the name of each field that does not always apply: the bit of `flags` that says so.
py::dict row_flags() {
  py::dict flags;
  for (const size_t i : fields::numbers_of<Field::array>()) {
    const Field& field = fields::all.at(i);
    if (field.validity != Validity::always) flags[field.name] = flag_of(field.validity);
  }
  return flags;
}

// For a test of stub, dtype, Arrow and JSON: name, whether it is in events, the array and Arrow, and doc.
py::list all_fields() {
  py::list list;
  for (const Field& field : fields::all)
    list.append(py::make_tuple(field.name, (field.in & Field::event) != 0, (field.in & Field::array) != 0,
                               (field.in & Field::arrow) != 0, field.doc));
  return list;
}

py::buffer_info buffer_of(const PyEventBatch& batch) {
  const std::span<const std::byte> bytes = batch.batch().bytes();
  return {const_cast<std::byte*>(bytes.data()), 1, "B", static_cast<py::ssize_t>(bytes.size()), true};
}

// The waiting packet events, at most `most`; waits for the first; empty on time-out and at the end. Without `merge`,
// only those of one block, which are not copied if there are many. `with_data` says whether the records have data.
PyEventBatch read_batch(PyStream& stream, size_t most, std::optional<double> timeout, bool merge, bool with_data) {
  if (!stream.has_packet_events()) throw py::type_error("the records of this stream are not packet events");
  PyStream::Taking taking(stream);
  std::vector<Slice> slices;
  std::optional<Slice> slice = stream.take(taking, most, deadline_after(timeout));
  for (size_t taken = 0; slice;) {
    taken += slice->records;
    slices.push_back(std::move(*slice));
    slice = merge && taken < most ? stream.take_waiting(taking, most - taken) : std::nullopt;
  }
  const py::tuple pairs = stream.names();  // those of the records, and perhaps of later pairs
  const EventBatch::Names names = to_names(pairs);
  EventBatch::Refused refused;
  EventBatch batch = without_gil([&] { return to_batch(slices, with_data, names, refused); });
  if (!refused.why.empty()) {  // the call that begins with it throws the error
    stream.put_back(slices, refused.input, batch.size() == 0 ? refused.end : refused.start);
    if (batch.size() == 0) throw py::value_error(refused.why);
  }
  return {std::move(batch), pairs};
}

}  // namespace

PyObject* PyEventBatch::event(size_t index) const {
  const nk_event event = to_event(batch_[index]);
  const std::span<const std::byte> record = std::as_bytes(std::span(&event, 1));
  const EventBatch::Data data = batch_.data(index);
  if (data.empty()) return make_event({record, 0}, names_.ptr());
  std::vector<std::byte> with_data(record.begin(), record.end());
  with_data.insert(with_data.end(), data.begin(), data.end());
  return make_event({with_data, 0}, names_.ptr());
}

void bind_batch(py::module_& module) {
  Iterator<BatchIterator>::make_type();

  module.attr("EVENT_SIZE") = sizeof(nk_event);  // size of a record without data
  module.attr("RECORD_SIZE") = sizeof(Row);      // with the ring's header
  module.attr("SIDE_OFFSET") = offsetof(nk_event, side);
  module.attr("PAIR_OFFSET") = offsetof(nk_event, pair);
  module.attr("COUNTS_SIZE") = sizeof(nk_counts);
  module.def("row_dtype", &row_dtype);
  module.def("row_flags", &row_flags);
  module.def("event_fields", &all_fields);

  py::class_<PyEventBatch>(module, "EventBatch", py::buffer_protocol())
      .def_buffer(&buffer_of)
      .def_static("read", &read_batch, py::arg("stream"), py::arg("most"), py::arg("timeout"), py::arg("merge"),
                  py::arg("with_data"))
      .def_static("from_records", &from_records, py::arg("records"), py::arg("with_data"), py::arg("clock_offset_ns"),
                  py::arg("names"))
      .def_static("from_rows", &from_rows, py::arg("rows"), py::arg("data"), py::arg("names"))
      .def_static("concat", &concat, py::arg("parts"))
      .def("__len__", [](const PyEventBatch& batch) { return batch.batch().size(); })
      .def("__iter__", &make_iterator)
      .def("__eq__", [](const PyEventBatch& one, const PyEventBatch& other) { return one.batch() == other.batch(); })
      .def_property_readonly("has_data", [](const PyEventBatch& batch) { return batch.batch().has_data(); })
      .def("data", &data, py::arg("index"))
      .def_property_readonly("names", &PyEventBatch::names)
      .def("event", &event, py::arg("index"))
      .def("slice", &slice, py::arg("first"), py::arg("step"), py::arg("size"))
      .def("select", &select, py::arg("mask"))
      .def("arrow_schema",
           [](const PyEventBatch& batch) {
             return capsule<ArrowSchema>("arrow_schema",
                                         [&](ArrowSchema* out) { table::export_schema(batch.batch(), out); });
           })
      .def("arrow_array",
           [](const PyEventBatch& batch) {
             return capsule<ArrowArray>("arrow_array", [&](ArrowArray* out) {
               const WithoutGil release;
               table::export_array(batch.batch(), out);
             });
           })
      .def("arrow_stream", [](const PyEventBatch& batch) {
        return capsule<ArrowArrayStream>("arrow_array_stream",
                                         [&](ArrowArrayStream* out) { table::export_stream(batch.batch(), out); });
      });
}

}  // namespace netkit_bpf::python
