// SPDX-License-Identifier: MIT
#include "devices/address.hpp"

#include <pybind11/stl.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include "devices/route.hpp"
#include "python/bindings.hpp"
#include "python/gil.hpp"

namespace py = pybind11;

namespace netkit_bpf::python {

namespace {

using Ref = std::pair<int, std::string>;

// IP addresses are 4 or 16 bytes, by which the family is known.
int family_of(const std::string& packed) { return packed.size() == 16 ? AF_INET6 : AF_INET; }

std::array<uint8_t, 16> bytes_of(const std::string& packed) {
  std::array<uint8_t, 16> bytes{};
  std::copy_n(packed.begin(), std::min(packed.size(), bytes.size()), bytes.begin());
  return bytes;
}

Address to_address(const std::string& packed, uint8_t prefix_len, uint32_t flags) {
  return {family_of(packed), bytes_of(packed), prefix_len, flags, {}};
}

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
      "address_is_delivered",
      [](NetlinkSocket& netlink, const Ref& ref, const py::bytes& ip) {
        const Address address = to_address(ip, 128, 0);
        const WithoutGil release;  // the address is a copy
        return address::is_delivered(netlink, {ref.first, ref.second}, address);
      },
      py::arg("netlink"), py::arg("device"), py::arg("ip"));
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
