// SPDX-License-Identifier: MIT
#include "python/devices/address.hpp"

#include <pybind11/stl.h>
#include <sys/socket.h>

#include <algorithm>
#include <utility>

#include "devices/route.hpp"
#include "python/bindings.hpp"
#include "python/gil.hpp"

namespace py = pybind11;

namespace netkit_bpf::python {

namespace {

using Ref = std::pair<int, std::string>;

py::bytes packed(int family, const std::array<uint8_t, 16>& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), family == AF_INET6 ? size_t{16} : size_t{4}};
}

Route to_route(const std::string& dst, uint8_t prefix_len, const std::optional<std::string>& via) {
  Route route{family_of(dst), bytes_of(dst), prefix_len, {}};
  if (via) route.via = Gateway{family_of(*via), bytes_of(*via)};
  return route;
}

template <typename Found>
std::vector<Found> unlocked(std::vector<Found> (*list)(NetlinkSocket&, const DeviceRef&), NetlinkSocket& netlink,
                            const Ref& ref) {
  const WithoutGil release;  // the reference is a copy, and the caller holds the socket
  return list(netlink, {ref.first, ref.second});
}

}  // namespace

void bind_addresses(py::module_& module) {
  const auto on_address = [&](const char* name, auto change) {
    module.def(
        name,
        [change](NetlinkSocket& netlink, const Ref& ref, const py::bytes& ip, uint8_t prefix_len, uint32_t flags,
                 const std::optional<py::bytes>& peer) {
          Address address = to_address(ip, prefix_len, flags);
          if (peer) address.peer = bytes_of(*peer);
          const WithoutGil release;  // the address is a copy
          change(netlink, {ref.first, ref.second}, address);
        },
        py::arg("netlink"), py::arg("device"), py::arg("ip"), py::arg("prefix_len"), py::arg("flags"), py::arg("peer"));
  };
  on_address("address_add", &address::add);
  on_address("address_remove", &address::remove);
  module.def(
      "address_list",
      [](NetlinkSocket& netlink, const Ref& ref) {
        py::list list;
        for (const Address& found : unlocked(&address::list, netlink, ref))
          list.append(py::make_tuple(packed(found.family, found.bytes), found.prefix_len, found.flags));
        return list;
      },
      py::arg("netlink"), py::arg("device"));

  const auto on_route = [&](const char* name, auto change) {
    module.def(
        name,
        [change](NetlinkSocket& netlink, const Ref& ref, const py::bytes& dst, uint8_t prefix_len,
                 const std::optional<py::bytes>& via) {
          const Route route = to_route(dst, prefix_len, via ? std::optional<std::string>(*via) : std::nullopt);
          const WithoutGil release;  // the route is a copy
          change(netlink, {ref.first, ref.second}, route);
        },
        py::arg("netlink"), py::arg("device"), py::arg("dst"), py::arg("prefix_len"), py::arg("via"));
  };
  on_route("route_add", &route::add);
  on_route("route_remove", &route::remove);
  module.def(
      "route_list",
      [](NetlinkSocket& netlink, const Ref& ref) {
        py::list list;
        for (const Route& found : unlocked(&route::list, netlink, ref)) {
          const py::object via = found.via ? py::object(packed(found.via->family, found.via->bytes)) : py::none();
          list.append(py::make_tuple(packed(found.family, found.bytes), found.prefix_len, via));
        }
        return list;
      },
      py::arg("netlink"), py::arg("device"));
}

}  // namespace netkit_bpf::python
