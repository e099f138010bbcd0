// SPDX-License-Identifier: MIT
#include "base/netns.hpp"

#include <pybind11/stl.h>

#include <memory>
#include <utility>

#include "devices/nsid.hpp"
#include "netlink/socket.hpp"
#include "python/bindings.hpp"

namespace py = pybind11;

namespace netkit_bpf::python {

void bind_netns(py::module_& module) {
  using no_gil = py::call_guard<py::gil_scoped_release>;
  module.def("netns_current", [] { return netns::current().release(); }, no_gil());
  module.def("netns_create_named", &netns::create_named, py::arg("name"), no_gil());
  module.def("netns_delete_named", &netns::delete_named, py::arg("name"), no_gil());
  py::class_<NetlinkSocket>(module, "NetlinkSocket")
      .def(py::init<const std::string&>(), py::arg("netns"), no_gil())
      .def("close", &NetlinkSocket::close, no_gil())
      .def("fail_request", &NetlinkSocket::fail_request, py::arg("n"), py::arg("error"));  // for tests alone
  module.def(
      "netns_create",
      [] {
        std::unique_ptr<NetlinkSocket> netlink;
        Fd fd = netns::create([&] { netlink = std::make_unique<NetlinkSocket>(""); });
        return std::pair(fd.release(), std::move(netlink));
      },
      no_gil());
  module.def(
      "netns_id",
      [](NetlinkSocket& netlink, const std::string& other) {
        const Fd fd = netns::open_path(other);
        return nsid::find(netlink, fd.get());
      },
      py::arg("netlink"), py::arg("other"), no_gil());
  module.def("netns_is_one", &netns::is_one, py::arg("path"), no_gil());
  module.def("netns_enter", &netns::enter, py::arg("path"), no_gil());
}

}  // namespace netkit_bpf::python
