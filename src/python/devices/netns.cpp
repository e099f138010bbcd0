// SPDX-License-Identifier: MIT
#include "base/netns.hpp"

#include <pybind11/stl.h>

#include <memory>
#include <tuple>
#include <utility>

#include "base/netns_exec.hpp"
#include "devices/device.hpp"
#include "devices/nsid.hpp"
#include "netlink/socket.hpp"
#include "python/bindings.hpp"
#include "python/devices/made.hpp"
#include "python/gil.hpp"

namespace py = pybind11;

namespace netkit_bpf::python {

namespace {

using netns::Namespace;

// Also makes a socket inside, on the thread that is there anyway.
template <typename Create>
std::pair<Namespace, std::shared_ptr<NetlinkSocket>> with_socket(const Create& create) {
  std::shared_ptr<NetlinkSocket> netlink;
  Namespace made = create([&] { netlink = std::make_shared<NetlinkSocket>(); });
  return {std::move(made), std::move(netlink)};
}

// Sets the alias of the loopback device of this thread's namespace: it records the maker, even if the name is removed.
void set_alias(const std::string& alias) {
  NetlinkSocket netlink;
  DeviceOptions options;
  options.alias = alias;
  device::change(netlink, {1, "lo"}, options, "set the alias of lo");  // LOOPBACK_IFINDEX
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
          [](const std::string& name, const std::string& alias) {
            auto [space, netlink] = with_socket([&](auto inside) {
              return Namespace::create_named(name, [&] {
                inside();
                set_alias(alias);
              });
            });
            return std::tuple(space, std::move(netlink),
                              std::make_unique<Made>([space = space, name] { space.remove_name(name); }));
          },
          py::arg("name"), py::arg("alias"), no_gil())
      .def("remove_name", &Namespace::remove_name, py::arg("name"), no_gil())
      .def("identity", &Namespace::identity)
      .def("fileno", [](const Namespace& space) { return space.use().fd(); })
      .def("enter", &netns::enter, no_gil())
      .def("become_inhabitant", &netns::become_inhabitant, py::arg("name"), py::arg("hosts"))  // in a forked child
      .def("close", &Namespace::close, no_gil())
      .def_property_readonly("closed", &Namespace::is_closed);
  py::class_<NetlinkSocket, std::shared_ptr<NetlinkSocket>>(module, "NetlinkSocket")
      .def(py::init<const Namespace&>(), py::arg("space"), no_gil())
      .def("close", &NetlinkSocket::close, no_gil())
      .def("netns_cookie", &NetlinkSocket::netns_cookie, no_gil())
      .def("fail_request", &NetlinkSocket::fail_request, py::arg("n"), py::arg("error"));  // for tests alone
  module.def("netns_id", &nsid::find, py::arg("netlink"), py::arg("other"), no_gil());
}

}  // namespace netkit_bpf::python
