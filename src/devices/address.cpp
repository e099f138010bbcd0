// SPDX-License-Identifier: MIT
#include "devices/address.hpp"

#include <arpa/inet.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/error.hpp"
#include "netlink/attributes.hpp"

namespace netkit_bpf::address {

namespace {

Message address_message(int type, int flags, const DeviceRef& device, const Address& address) {
  ifaddrmsg info{};
  info.ifa_family = static_cast<uint8_t>(address.family);
  info.ifa_prefixlen = address.prefix_len;
  info.ifa_index = static_cast<uint32_t>(device.ifindex);
  const size_t size = address.family == AF_INET6 ? 16 : 4;
  Message message(type, flags);
  message.header(info).put(IFA_LOCAL, address.bytes.data(), size).put(IFA_ADDRESS, address.bytes.data(), size);
  if (address.flags != 0) message.put_u32(IFA_FLAGS, address.flags);
  return message;
}

}  // namespace

std::string text(const Address& address) {
  std::array<char, INET6_ADDRSTRLEN> written{};
  inet_ntop(address.family, address.bytes.data(), written.data(), written.size());
  return std::string(written.data()) + "/" + std::to_string(address.prefix_len);
}

Request adding(const DeviceRef& device, const Address& address) {
  return {address_message(RTM_NEWADDR, NLM_F_REQUEST | NLM_F_CREATE | NLM_F_EXCL, device, address),
          "add address " + text(address) + " to " + device.name,
          {},
          [](int error) {
            if (error == EEXIST) return "the device has this address already";
            if (error == EACCES) return "IPv6 is disabled on the device or in its namespace";
            return device::advice(error);
          }};
}

void add(NetlinkSocket& netlink, const DeviceRef& device, const Address& address) {
  netlink.request(adding(device, address));
}

void remove(NetlinkSocket& netlink, const DeviceRef& device, const Address& address) {
  netlink.request(
      {address_message(RTM_DELADDR, NLM_F_REQUEST, device, address),
       "remove address " + text(address) + " from " + device.name,
       {},
       [](int error) { return error == EADDRNOTAVAIL ? "the device has no such address" : device::advice(error); }});
}

std::vector<Address> list(NetlinkSocket& netlink, const DeviceRef& device) {
  ifaddrmsg info{};
  info.ifa_family = AF_UNSPEC;
  info.ifa_index = static_cast<uint32_t>(device.ifindex);
  Message message(RTM_GETADDR, NLM_F_REQUEST | NLM_F_DUMP);
  message.header(info);
  std::vector<Address> found;
  const auto take = [&](const nlmsghdr* header) {
    const auto* entry = static_cast<const ifaddrmsg*>(nlmsg_data(header));
    if (entry->ifa_index != static_cast<uint32_t>(device.ifindex)) return;
    const Attributes parsed(header, sizeof(ifaddrmsg), IFA_MAX);
    // IFA_ADDRESS is the other end's on a point-to-point address; IFA_LOCAL, where there is one, is ours.
    const std::vector<uint8_t> local = parsed.bytes(parsed[IFA_LOCAL] != nullptr ? IFA_LOCAL : IFA_ADDRESS);
    if (local.empty()) return;
    Address address{entry->ifa_family, {}, entry->ifa_prefixlen, parsed.u32(IFA_FLAGS).value_or(entry->ifa_flags)};
    std::copy_n(local.begin(), std::min(local.size(), address.bytes.size()), address.bytes.begin());
    found.push_back(address);
  };
  netlink.dump({std::move(message), "list the addresses of " + device.name, take, device::advice},
               [&] { found.clear(); });
  return found;
}

}  // namespace netkit_bpf::address
