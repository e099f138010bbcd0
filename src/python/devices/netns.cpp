// SPDX-License-Identifier: MIT
#include "base/netns.hpp"

#include <pybind11/stl.h>

#include <memory>
#include <utility>

#include "devices/nsid.hpp"
#include "netlink/socket.hpp"
#include "python/bindings.hpp"
#include "python/gil.hpp"

namespace py = pybind11;

namespace netkit_bpf::python {

namespace {

using netns::Namespace;

// With a socket inside, which is made on the thread that is there anyway.
template <typename Create>
std::pair<Namespace, std::unique_ptr<NetlinkSocket>> with_socket(const Create& create) {
  std::unique_ptr<NetlinkSocket> netlink;
  Namespace made = create([&] { netlink = std::make_unique<NetlinkSocket>(); });
  return {std::move(made), std::move(netlink)};
}

}  // namespace

void bind_netns(py::module_& module) {
  using no_gil = py::call_guard<WithoutGil>;
  py::class_<Namespace>(module, "Namespace")
      .def_static("open", &Namespace::open, py::arg("path"), py::arg("name"), no_gil())
      .def_static("current", &Namespace::current, no_gil())
      .def_static(
          "create", [] { return with_socket([](auto inside) { return Namespace::create(inside); }); }, no_gil())
      .def_static(
          "create_named",
          [](const std::string& name) {
            return with_socket([&](auto inside) { return Namespace::create_named(name, inside); });
          },
          py::arg("name"), no_gil())
      .def("remove_name", &Namespace::remove_name, py::arg("name"), no_gil())
      .def("identity", &Namespace::identity)
      .def("fileno", [](const Namespace& space) { return space.use().fd(); })
      .def("enter", &netns::enter, no_gil())
      .def("close", &Namespace::close, no_gil())
      .def_property_readonly("closed", &Namespace::is_closed);
  py::class_<NetlinkSocket>(module, "NetlinkSocket")
      .def(py::init<const Namespace&>(), py::arg("space"), no_gil())
      .def("close", &NetlinkSocket::close, no_gil())
      .def("fail_request", &NetlinkSocket::fail_request, py::arg("n"), py::arg("error"));  // for tests alone
  module.def("netns_id", &nsid::find, py::arg("netlink"), py::arg("other"), no_gil());
}

}  // namespace netkit_bpf::python
