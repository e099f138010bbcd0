// SPDX-License-Identifier: MIT
// Routes over a device, in the main table: ip-route(8).
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "devices/device.hpp"
#include "netlink/socket.hpp"

namespace netkit_bpf {

struct Gateway {
  int family = 0;
  std::array<uint8_t, 16> bytes{};

  bool operator==(const Gateway&) const = default;
};

struct Route {
  int family = 0;                   // AF_INET or AF_INET6
  std::array<uint8_t, 16> bytes{};  // of the destination, network byte order; IPv4 takes the first four
  uint8_t prefix_len = 0;
  std::optional<Gateway> via;  // may be IPv6 for an IPv4 destination (RFC 5549)

  bool operator==(const Route&) const = default;
};

namespace route {

std::string text(const Route& route);

void add(NetlinkSocket& netlink, const DeviceRef& device, const Route& route);
// Removes the first listed route that equals this one; of several next hops, only that one. Throws ESRCH if there is
// none.
void remove(NetlinkSocket& netlink, const DeviceRef& device, const Route& route);
// Unicast routes over this device, including those where it is one of several next hops.
std::vector<Route> list(NetlinkSocket& netlink, const DeviceRef& device);

}  // namespace route
}  // namespace netkit_bpf
