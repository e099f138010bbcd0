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
  // Of the other end, where the address is of a point-to-point link: the prefix is then the other end's.
  std::optional<std::array<uint8_t, 16>> peer = std::nullopt;
};

namespace address {

// IPv4 or IPv6 as inet_ntop(3) writes it, with its prefix length.
std::string text(const Address& address);

void add(NetlinkSocket& netlink, const DeviceRef& device, const Address& address);
// The one with that peer, or without one: the one that has none, else the first that is listed.
void remove(NetlinkSocket& netlink, const DeviceRef& device, const Address& address);
std::vector<Address> list(NetlinkSocket& netlink, const DeviceRef& device);
// The request behind add(), for an exchange of many.
Request adding(const DeviceRef& device, const Address& address);

}  // namespace address
}  // namespace netkit_bpf
