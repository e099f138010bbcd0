// SPDX-License-Identifier: MIT
#include "events/stamped_batch.hpp"

#include <pybind11/stl.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "python/bindings.hpp"
#include "python/events/batch.hpp"
#include "python/events/capsule.hpp"
#include "python/gil.hpp"

namespace py = pybind11;

namespace netkit_bpf::python {

namespace {

StampedBatch stamp(const PyEventBatch& batch, uint16_t schema_version, std::string host, std::string boot_id,
                   std::string stream, uint64_t first, std::vector<std::optional<uint64_t>> netns_cookies) {
  return {batch.batch(),
          {schema_version, std::move(host), std::move(boot_id), std::move(stream), first, std::move(netns_cookies)}};
}

}  // namespace

void bind_stamped_batch(py::module_& module) {
  py::class_<StampedBatch>(module, "StampedBatch")  // immutable, so that any thread may use it
      .def(py::init(&stamp), py::arg("batch"), py::arg("schema_version"), py::arg("host"), py::arg("boot_id"),
           py::arg("stream"), py::arg("first"), py::arg("netns_cookies"))
      .def("__len__", [](const StampedBatch& self) { return self.batch.size(); })
      .def(
          "netns_cookie",
          [](const StampedBatch& self, size_t row) {
            if (row >= self.batch.size()) throw py::index_error("no such row");
            return self.netns_cookie(row);
          },
          py::arg("row"))
      .def("arrow_schema",
           [](const StampedBatch& self) {
             return capsule<ArrowSchema>("arrow_schema",
                                         [&](ArrowSchema* out) { table::export_stamped_schema(self, out); });
           })
      .def("arrow_array",
           [](const StampedBatch& self) {
             return capsule<ArrowArray>("arrow_array", [&](ArrowArray* out) {
               const WithoutGil release;
               table::export_stamped_array(self, out);
             });
           })
      .def("arrow_stream", [](const StampedBatch& self) {
        return capsule<ArrowArrayStream>("arrow_array_stream",
                                         [&](ArrowArrayStream* out) { table::export_stamped_stream(self, out); });
      });
}

}  // namespace netkit_bpf::python
