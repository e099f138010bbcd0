// SPDX-License-Identifier: MIT
// Events that Python reads itself get their times by the same rule as records.
#include "ring/clock_offset.hpp"

#include "python/bindings.hpp"

namespace py = pybind11;

namespace netkit_bpf::python {

void bind_clock_offset(py::module_& module) {
  py::class_<ClockOffset>(module, "ClockOffset").def(py::init<>()).def("now", &ClockOffset::now);
}

}  // namespace netkit_bpf::python
