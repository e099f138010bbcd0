// SPDX-License-Identifier: MIT
#include "base/claim.hpp"

#include "python/bindings.hpp"
#include "python/gil.hpp"

namespace py = pybind11;

namespace netkit_bpf::python {

void bind_claim(py::module_& module) {
  using no_gil = py::call_guard<WithoutGil>;
  module.def("claim_make", &claim::make, no_gil());
  module.def(
      "claim_is_free", [](const std::string& name) { return claim::look_up(name) == claim::State::free; },
      py::arg("name"), no_gil());
}

}  // namespace netkit_bpf::python
