// SPDX-License-Identifier: MIT
#include <pybind11/stl.h>

#include <algorithm>
#include <variant>

#include "../device.hpp"
#include "../netkit.hpp"
#include "bindings.hpp"

namespace py = pybind11;

namespace netkit_bpf::python {

namespace {

py::bytes mac_of(const DeviceInfo& info) { return {reinterpret_cast<const char*>(info.mac.data()), info.mac.size()}; }

Address to_address(int family, const std::string& bytes, uint8_t prefix_len, bool nodad) {
  Address address{family, {}, prefix_len, nodad};
  std::copy_n(bytes.begin(), std::min(bytes.size(), address.bytes.size()), address.bytes.begin());
  return address;
}

}  // namespace

void bind_devices(py::module_& module) {
  using no_gil = py::call_guard<py::gil_scoped_release>;

  py::class_<DeviceInfo>(module, "DeviceInfo")
      .def_readonly("ifindex", &DeviceInfo::ifindex)
      .def_readonly("name", &DeviceInfo::name)
      .def_readonly("kind", &DeviceInfo::kind)
      .def_readonly("flags", &DeviceInfo::flags)
      .def_readonly("mtu", &DeviceInfo::mtu)
      .def_readonly("link", &DeviceInfo::link)
      .def_readonly("link_netnsid", &DeviceInfo::link_netnsid)
      .def_property_readonly("mac", &mac_of)
      .def_property_readonly("primary", [](const DeviceInfo& info) { return info.netkit.primary; })
      .def_property_readonly("mode", [](const DeviceInfo& info) { return info.netkit.mode; })
      .def_property_readonly("policy", [](const DeviceInfo& info) { return info.netkit.policy; })
      .def_property_readonly("peer_policy", [](const DeviceInfo& info) { return info.netkit.peer_policy; })
      .def_property_readonly("scrub", [](const DeviceInfo& info) { return info.netkit.scrub; })
      .def_property_readonly("peer_scrub", [](const DeviceInfo& info) { return info.netkit.peer_scrub; })
      .def_property_readonly("headroom", [](const DeviceInfo& info) { return info.netkit.headroom; })
      .def_property_readonly("tailroom", [](const DeviceInfo& info) { return info.netkit.tailroom; });

  py::class_<netkit::Spec>(module, "PairSpec")
      .def(py::init<>())
      .def_readwrite("name", &netkit::Spec::name)
      .def_readwrite("peer_name", &netkit::Spec::peer_name)
      .def_property("mode", nullptr, [](netkit::Spec& spec, uint32_t mode) { spec.mode = netkit::Mode{mode}; })
      .def_property("policy", nullptr, [](netkit::Spec& spec, uint32_t value) { spec.policy = netkit::Policy{value}; })
      .def_property("peer_policy", nullptr,
                    [](netkit::Spec& spec, uint32_t value) { spec.peer_policy = netkit::Policy{value}; })
      .def_property("scrub", nullptr, [](netkit::Spec& spec, uint32_t value) { spec.scrub = netkit::Scrub{value}; })
      .def_property("peer_scrub", nullptr,
                    [](netkit::Spec& spec, uint32_t value) { spec.peer_scrub = netkit::Scrub{value}; })
      .def_readwrite("headroom", &netkit::Spec::headroom)
      .def_readwrite("tailroom", &netkit::Spec::tailroom)
      .def_readwrite("mtu", &netkit::Spec::mtu)
      .def_readwrite("peer_mtu", &netkit::Spec::peer_mtu)
      .def_readwrite("mac", &netkit::Spec::mac)
      .def_readwrite("peer_mac", &netkit::Spec::peer_mac)
      .def_readwrite("netns", &netkit::Spec::netns)
      .def_readwrite("peer_netns", &netkit::Spec::peer_netns)
      .def_readwrite("up", &netkit::Spec::up);

  // Each call opens a socket of its own inside the namespace: no state between calls, any thread may call.
  module.def(
      "pair_create",
      [](const netkit::Spec& spec) {
        const netkit::Pair pair = netkit::create(spec);
        return std::pair(pair.primary, pair.peer);
      },
      py::arg("spec"), no_gil());
  module.def(
      "pair_set_policy",
      [](const std::string& netns, int ifindex, uint32_t policy, bool of_peer) {
        Netlink netlink(netns);
        netkit::set_policy(netlink, ifindex, netkit::Policy{policy}, of_peer);
      },
      py::arg("netns"), py::arg("ifindex"), py::arg("policy"), py::arg("of_peer"), no_gil());
  module.def(
      "device_get",
      [](const std::string& netns, const std::variant<int, std::string>& which) {
        Netlink netlink(netns);
        return std::visit([&](const auto& key) { return device::get(netlink, key); }, which);
      },
      py::arg("netns"), py::arg("which"), no_gil());
  module.def(
      "device_delete",
      [](const std::string& netns, int ifindex) {
        Netlink netlink(netns);
        return device::remove(netlink, ifindex);
      },
      py::arg("netns"), py::arg("ifindex"), no_gil());
  module.def(
      "device_set_up",
      [](const std::string& netns, int ifindex, bool up) {
        Netlink netlink(netns);
        device::set_up(netlink, ifindex, up);
      },
      py::arg("netns"), py::arg("ifindex"), py::arg("up"), no_gil());
  const auto on_address = [&](const char* name, auto change) {
    module.def(
        name,
        [change](const std::string& netns, int ifindex, int family, const py::bytes& bytes, uint8_t prefix_len,
                 bool nodad, const std::string& text) {
          const Address address = to_address(family, bytes, prefix_len, nodad);
          const py::gil_scoped_release release;  // address and text are copies
          Netlink netlink(netns);
          change(netlink, ifindex, address, text);
        },
        py::arg("netns"), py::arg("ifindex"), py::arg("family"), py::arg("address"), py::arg("prefix_len"),
        py::arg("nodad"), py::arg("text"));
  };
  on_address("device_add_address", &device::add_address);
  on_address("device_remove_address", &device::remove_address);
  module.def(
      "device_addresses",
      [](const std::string& netns, int ifindex) {
        std::vector<Address> found;
        {
          const py::gil_scoped_release release;  // netns is a copy
          Netlink netlink(netns);
          found = device::addresses(netlink, ifindex);
        }
        py::list list;
        for (const Address& address : found)
          list.append(py::make_tuple(
              py::bytes(reinterpret_cast<const char*>(address.bytes.data()), address.family == AF_INET6 ? 16 : 4),
              address.prefix_len));
        return list;
      },
      py::arg("netns"), py::arg("ifindex"));
}

}  // namespace netkit_bpf::python
