// SPDX-License-Identifier: MIT
#include "devices/device.hpp"

#include <pybind11/stl.h>

#include <algorithm>
#include <utility>

#include "base/netns.hpp"
#include "python/bindings.hpp"
#include "python/gil.hpp"

namespace py = pybind11;

namespace netkit_bpf::python {

namespace {

using no_gil = py::call_guard<WithoutGil>;
using Ref = std::pair<int, std::string>;  // the Python form of DeviceRef: ifindex and last known name

DeviceRef device_of(const Ref& ref) { return {ref.first, ref.second}; }

py::bytes mac_of(const DeviceInfo& info) { return {reinterpret_cast<const char*>(info.mac.data()), info.mac.size()}; }

std::optional<uint32_t> number_of(const DeviceInfo& info, const std::string& name) {
  return info.numbers.at(link_number(name));
}

void set_number(DeviceOptions& options, const std::string& name, uint32_t value) {
  options.numbers.at(link_number(name)) = value;
}

py::tuple to_tuple(const NumberRange& range) { return py::make_tuple(range.lowest, range.highest); }

void bind_link_numbers(py::module_& module) {
  py::list rows;
  for (const LinkNumber& row : link_numbers) {
    const py::object later = row.later ? py::object(to_tuple(*row.later)) : py::none();
    rows.append(py::make_tuple(row.name, row.word, row.key, to_tuple(row.at_creation), later, row.what));
  }
  module.attr("LINK_NUMBERS") = py::tuple(rows);
}

void bind_info(py::module_& module) {
  py::class_<DeviceInfo>(module, "DeviceInfo")
      .def_readonly("ifindex", &DeviceInfo::ifindex)
      .def_property_readonly("name", [](const DeviceInfo& info) { return to_text(info.name); })
      .def_readonly("kind", &DeviceInfo::kind)
      .def_property_readonly("alias", [](const DeviceInfo& info) { return to_text(info.alias); })
      .def_readonly("flags", &DeviceInfo::flags)
      .def_readonly("addrgenmode", &DeviceInfo::addrgenmode)
      .def_readonly("link", &DeviceInfo::link)
      .def_readonly("link_netnsid", &DeviceInfo::link_netnsid)
      .def_readonly("master", &DeviceInfo::master)
      .def_readonly("statistics", &DeviceInfo::statistics)
      .def_property_readonly("mac", &mac_of)
      .def("number", &number_of, py::arg("name"))
      .def_property_readonly("primary", [](const DeviceInfo& info) { return info.netkit.primary; })
      .def_property_readonly("mode", [](const DeviceInfo& info) { return info.netkit.mode; })
      .def_property_readonly("policy", [](const DeviceInfo& info) { return info.netkit.policy; })
      .def_property_readonly("peer_policy", [](const DeviceInfo& info) { return info.netkit.peer_policy; })
      .def_property_readonly("scrub", [](const DeviceInfo& info) { return info.netkit.scrub; })
      .def_property_readonly("peer_scrub", [](const DeviceInfo& info) { return info.netkit.peer_scrub; })
      .def_property_readonly("headroom", [](const DeviceInfo& info) { return info.netkit.headroom; })
      .def_property_readonly("tailroom", [](const DeviceInfo& info) { return info.netkit.tailroom; });
  py::class_<DeviceOptions>(module, "DeviceOptions")
      .def(py::init<>())
      .def_readwrite("name", &DeviceOptions::name)
      .def_readwrite("ifindex", &DeviceOptions::ifindex)
      .def_readwrite("mac", &DeviceOptions::mac)
      .def_readwrite("alias", &DeviceOptions::alias)
      .def_readwrite("addrgenmode", &DeviceOptions::addrgenmode)
      .def("set_number", &set_number, py::arg("name"), py::arg("value"));
}

}  // namespace

void bind_devices(py::module_& module) {
  bind_link_numbers(module);
  bind_info(module);
  module.def(
      "device_find", [](NetlinkSocket& netlink, const std::string& name) { return device::get(netlink, name); },
      py::arg("netlink"), py::arg("name"), no_gil());
  module.def(
      "device_get", [](NetlinkSocket& netlink, const Ref& ref) { return device::get(netlink, device_of(ref)); },
      py::arg("netlink"), py::arg("device"), no_gil());
  module.def("device_list", &device::list, py::arg("netlink"), py::arg("kind"), no_gil());
  module.def(
      "device_set_up",
      [](NetlinkSocket& netlink, const Ref& ref, bool up) { device::set_up(netlink, device_of(ref), up); },
      py::arg("netlink"), py::arg("device"), py::arg("up"), no_gil());
  module.def(
      "device_change",
      [](NetlinkSocket& netlink, const Ref& ref, const DeviceOptions& options, const std::string& operation) {
        device::change(netlink, device_of(ref), options, operation);
      },
      py::arg("netlink"), py::arg("device"), py::arg("options"), py::arg("operation"), no_gil());
  module.def(
      "device_rename",
      [](NetlinkSocket& netlink, const Ref& ref, const std::string& name) {
        device::rename(netlink, device_of(ref), name);
      },
      py::arg("netlink"), py::arg("device"), py::arg("name"), no_gil());
  module.def(
      "device_move",
      [](NetlinkSocket& netlink, const Ref& ref, NetlinkSocket& to, const netns::Namespace& to_space) {
        return device::move(netlink, device_of(ref), to, to_space);
      },
      py::arg("netlink"), py::arg("device"), py::arg("to"), py::arg("to_space"), no_gil());
  module.def(
      "device_delete", [](NetlinkSocket& netlink, const Ref& ref) { return device::remove(netlink, device_of(ref)); },
      py::arg("netlink"), py::arg("device"), no_gil());
  module.def("group_delete", &device::remove_group, py::arg("netlink"), py::arg("group"), no_gil());
}

}  // namespace netkit_bpf::python
