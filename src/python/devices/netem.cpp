// SPDX-License-Identifier: MIT
#include "devices/netem.hpp"

#include <pybind11/stl.h>

#include <string>
#include <utility>

#include "python/bindings.hpp"
#include "python/gil.hpp"

namespace py = pybind11;

namespace netkit_bpf::python {

void bind_netem(py::module_& module) {
  using no_gil = py::call_guard<WithoutGil>;
  using Ref = std::pair<int, std::string>;
  module.def(
      "netem_set",
      [](NetlinkSocket& netlink, const Ref& ref, int64_t delay_ns, int64_t jitter_ns, double loss, uint64_t rate,
         uint32_t limit) { netem::set(netlink, {ref.first, ref.second}, {delay_ns, jitter_ns, loss, rate, limit}); },
      py::arg("netlink"), py::arg("device"), py::arg("delay_ns"), py::arg("jitter_ns"), py::arg("loss"),
      py::arg("rate"), py::arg("limit"), no_gil());
  module.def(
      "netem_remove", [](NetlinkSocket& netlink, const Ref& ref) { netem::remove(netlink, {ref.first, ref.second}); },
      py::arg("netlink"), py::arg("device"), no_gil());
}

}  // namespace netkit_bpf::python
