// SPDX-License-Identifier: MIT
#include "devices/pair.hpp"

#include <pybind11/stl.h>

#include <memory>
#include <tuple>
#include <utility>
#include <vector>

#include "python/bindings.hpp"
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
  using netkit::PairOptions;

  py::class_<PairOptions>(module, "PairOptions")
      .def(py::init<>())
      .def_readwrite("kind", &PairOptions::kind)  // for benchmarks alone
      .def_readonly("primary", &PairOptions::primary)
      .def_readonly("peer", &PairOptions::peer)
      .def_property("mode", nullptr, [](PairOptions& options, uint32_t value) { options.mode = netkit::Mode{value}; })
      .def_property("policy", nullptr,
                    [](PairOptions& options, uint32_t value) { options.policy = netkit::Policy{value}; })
      .def_property("peer_policy", nullptr,
                    [](PairOptions& options, uint32_t value) { options.peer_policy = netkit::Policy{value}; })
      .def_property("scrub", nullptr,
                    [](PairOptions& options, uint32_t value) { options.scrub = netkit::Scrub{value}; })
      .def_property("peer_scrub", nullptr,
                    [](PairOptions& options, uint32_t value) { options.peer_scrub = netkit::Scrub{value}; })
      .def_readwrite("headroom", &PairOptions::headroom)
      .def_readwrite("tailroom", &PairOptions::tailroom)
      .def_property("peer_netns", nullptr,
                    [](PairOptions& options, const netns::Namespace& space) { options.peer_netns = space; })
      .def_readwrite("up", &PairOptions::up);

  module.def(
      "pairs_create",
      [](const std::shared_ptr<NetlinkSocket>& netlink,
         const std::vector<std::pair<const PairOptions*, NetlinkSocket*>>& wanted) {
        std::vector<netkit::Order> orders;
        orders.reserve(wanted.size());
        for (const auto& [options, peer_netlink] : wanted) orders.push_back({options, peer_netlink});
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
      [](const std::shared_ptr<NetlinkSocket>& netlink, PairOptions& options) {
        options.pairing = netkit::Pairing::single;
        DeviceInfo device = netkit::create_single(*netlink, options);
        auto owner = made_device(netlink, device);
        return std::pair(std::move(device), std::move(owner));
      },
      py::arg("netlink"), py::arg("options"), no_gil());
  module.def(
      "pair_set_policy",
      [](NetlinkSocket& netlink, const std::pair<int, std::string>& primary, uint32_t policy, bool of_peer) {
        netkit::set_policy(netlink, {primary.first, primary.second}, netkit::Policy{policy}, of_peer);
      },
      py::arg("netlink"), py::arg("primary"), py::arg("policy"), py::arg("of_peer"), no_gil());
}

}  // namespace netkit_bpf::python
