// SPDX-License-Identifier: MIT
#include "devices/pair.hpp"

#include <pybind11/stl.h>

#include <memory>
#include <tuple>
#include <utility>
#include <vector>

#include "python/bindings.hpp"
#include "python/devices/address.hpp"
#include "python/devices/made.hpp"
#include "python/gil.hpp"

namespace py = pybind11;

namespace netkit_bpf::python {

namespace {

std::unique_ptr<Made> made_device(const std::shared_ptr<NetlinkSocket>& netlink, const DeviceInfo& device) {
  return std::make_unique<Made>(
      [netlink, ref = DeviceRef{device.ifindex, device.name}] { static_cast<void>(device::remove(*netlink, ref)); });
}

}  // namespace

void bind_pairs(py::module_& module) {
  using no_gil = py::call_guard<WithoutGil>;
  using netkit::Spec;

  py::class_<Spec>(module, "PairSpec")
      .def(py::init<>())
      .def_readwrite("kind", &Spec::kind)  // for benchmarks alone
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
      .def_property("peer_netns", nullptr, [](Spec& spec, const netns::Namespace& space) { spec.peer_netns = space; })
      .def_readwrite("up", &Spec::up)
      .def(
          "add_address",
          [](Spec& spec, const py::bytes& ip, uint8_t prefix_len, uint32_t flags) {
            spec.addresses.push_back(to_address(ip, prefix_len, flags));
          },
          py::arg("ip"), py::arg("prefix_len"), py::arg("flags"))
      .def(
          "add_peer_address",
          [](Spec& spec, const py::bytes& ip, uint8_t prefix_len, uint32_t flags) {
            spec.peer_addresses.push_back(to_address(ip, prefix_len, flags));
          },
          py::arg("ip"), py::arg("prefix_len"), py::arg("flags"));

  module.def(
      "pairs_create",
      [](const std::shared_ptr<NetlinkSocket>& netlink,
         const std::vector<std::pair<const Spec*, NetlinkSocket*>>& wanted) {
        std::vector<netkit::Order> orders;
        orders.reserve(wanted.size());
        for (const auto& [spec, peer_netlink] : wanted) orders.push_back({spec, peer_netlink});
        std::vector<std::tuple<DeviceInfo, DeviceInfo, std::unique_ptr<Made>>> made;
        for (netkit::Pair& pair : netkit::create(*netlink, orders)) {
          auto owner = made_device(netlink, pair.primary);
          made.emplace_back(std::move(pair.primary), std::move(pair.peer), std::move(owner));
        }
        return made;
      },
      py::arg("netlink"), py::arg("orders"), no_gil());
  module.def(
      "single_create",
      [](const std::shared_ptr<NetlinkSocket>& netlink, Spec& spec) {
        spec.pairing = netkit::Pairing::single;
        DeviceInfo device = netkit::create_single(*netlink, spec);
        auto owner = made_device(netlink, device);
        return std::pair(std::move(device), std::move(owner));
      },
      py::arg("netlink"), py::arg("spec"), no_gil());
  module.def(
      "pair_set_policy",
      [](NetlinkSocket& netlink, const std::pair<int, std::string>& primary, uint32_t policy, bool of_peer) {
        netkit::set_policy(netlink, {primary.first, primary.second}, netkit::Policy{policy}, of_peer);
      },
      py::arg("netlink"), py::arg("primary"), py::arg("policy"), py::arg("of_peer"), no_gil());
}

}  // namespace netkit_bpf::python
