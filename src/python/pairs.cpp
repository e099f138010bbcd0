// SPDX-License-Identifier: MIT
#include <pybind11/stl.h>

#include <utility>

#include "../netkit.hpp"
#include "bindings.hpp"

namespace py = pybind11;

namespace netkit_bpf::python {

void bind_pairs(py::module_& module) {
  using no_gil = py::call_guard<py::gil_scoped_release>;
  using netkit::Spec;

  py::class_<Spec>(module, "PairSpec")
      .def(py::init<>())
      .def_readonly("primary", &Spec::primary)
      .def_readonly("peer", &Spec::peer)
      .def_property("mode", nullptr, [](Spec& spec, uint32_t value) { spec.mode = netkit::Mode{value}; })
      .def_property("policy", nullptr, [](Spec& spec, uint32_t value) { spec.policy = netkit::Policy{value}; })
      .def_property("peer_policy", nullptr,
                    [](Spec& spec, uint32_t value) { spec.peer_policy = netkit::Policy{value}; })
      .def_property("scrub", nullptr, [](Spec& spec, uint32_t value) { spec.scrub = netkit::Scrub{value}; })
      .def_property("peer_scrub", nullptr, [](Spec& spec, uint32_t value) { spec.peer_scrub = netkit::Scrub{value}; })
      .def_readwrite("headroom", &Spec::headroom)
      .def_readwrite("tailroom", &Spec::tailroom)
      .def_readwrite("peer_netns", &Spec::peer_netns)
      .def_readwrite("up", &Spec::up);

  module.def(
      "pair_create",
      [](Netlink& netlink, Netlink& peer_netlink, const Spec& spec) {
        const netkit::Pair pair = netkit::create(netlink, peer_netlink, spec);
        return std::pair(pair.primary, pair.peer);
      },
      py::arg("netlink"), py::arg("peer_netlink"), py::arg("spec"), no_gil());
  module.def(
      "pair_set_policy",
      [](Netlink& netlink, const std::pair<int, std::string>& primary, uint32_t policy, bool of_peer) {
        netkit::set_policy(netlink, {primary.first, primary.second}, netkit::Policy{policy}, of_peer);
      },
      py::arg("netlink"), py::arg("primary"), py::arg("policy"), py::arg("of_peer"), no_gil());
}

}  // namespace netkit_bpf::python
