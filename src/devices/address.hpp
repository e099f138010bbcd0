// SPDX-License-Identifier: MIT
// Addresses of devices: ip-address(8).
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "devices/device.hpp"
#include "netlink/socket.hpp"

namespace netkit_bpf {

struct Address {
  int family = 0;                   // AF_INET or AF_INET6
  std::array<uint8_t, 16> bytes{};  // network byte order; IPv4 takes the first four
  uint8_t prefix_len = 0;
  uint32_t flags = 0;  // IFA_F_*
  // The other end's address on a point-to-point link; the prefix is then the other end's too.
  std::optional<std::array<uint8_t, 16>> peer = std::nullopt;
};

namespace address {

// IPv4 or IPv6 as inet_ntop(3) writes it, with its prefix length.
std::string text(const Address& address);

// An IPv6 address without duplicate address detection is delivered to when this returns, if the device is up.
void add(NetlinkSocket& netlink, const DeviceRef& device, const Address& address);
// Whether packets to this address are delivered. The kernel acknowledges a new IPv6 address, and lists it, before: its
// local route is left to a work queue (addrconf_dad_start() in net/ipv6/addrconf.c). Only right while the device is up.
bool is_delivered(NetlinkSocket& netlink, const DeviceRef& device, const Address& address);
// Removes the address with that peer; without a peer, the one that has none, else the first that is listed.
void remove(NetlinkSocket& netlink, const DeviceRef& device, const Address& address);
std::vector<Address> list(NetlinkSocket& netlink, const DeviceRef& device);

}  // namespace address
}  // namespace netkit_bpf
