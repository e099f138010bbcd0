// SPDX-License-Identifier: MIT
// A network device, as rtnetlink(7) shows and changes it.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "netkit_attributes.hpp"
#include "netlink.hpp"

namespace netkit_bpf {

struct DeviceInfo {
  int ifindex = 0;
  std::string name;
  std::string kind;
  uint32_t flags = 0;
  uint32_t mtu = 0;
  std::vector<uint8_t> mac;
  int link = 0;                     // the other end's ifindex
  std::optional<int> link_netnsid;  // the other end's namespace, where it is another one
  NetkitAttributes netkit;
};

struct Address {
  int family = 0;                   // AF_INET or AF_INET6
  std::array<uint8_t, 16> bytes{};  // network byte order; IPv4 takes the first four
  uint8_t prefix_len = 0;
  bool nodad = false;  // IPv6: usable at once, without duplicate address detection
};

namespace device {

// Reads a message of type RTM_NEWLINK.
DeviceInfo parse(const nlmsghdr* header);

DeviceInfo get(Netlink& netlink, const std::string& name);
DeviceInfo get(Netlink& netlink, int ifindex);

void set_up(Netlink& netlink, int ifindex, bool up);
// Whether the kernel makes an IPv6 link-local address by itself (IN6_ADDR_GEN_MODE_EUI64 or _NONE).
void set_automatic_link_local(Netlink& netlink, int ifindex, bool automatic);
void add_address(Netlink& netlink, int ifindex, const Address& address, const std::string& text);
void remove_address(Netlink& netlink, int ifindex, const Address& address, const std::string& text);
std::vector<Address> addresses(Netlink& netlink, int ifindex);
// The number by which the socket's namespace knows another one; empty where it has none.
std::optional<int> netns_id(Netlink& netlink, int netns_fd);
// Returns false where the device is gone already.
bool remove(Netlink& netlink, int ifindex);

}  // namespace device
}  // namespace netkit_bpf
