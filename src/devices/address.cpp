// SPDX-License-Identifier: MIT
#include "devices/address.hpp"

#include <arpa/inet.h>
#include <linux/if.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <thread>
#include <utility>

#include "base/error.hpp"
#include "netlink/attributes.hpp"

namespace netkit_bpf::address {

namespace {

// The kernel delivers to a new address within microseconds, unless other work keeps it from that.
constexpr std::chrono::microseconds shortest_nap{50};
constexpr std::chrono::microseconds longest_nap{5'000};
constexpr std::chrono::seconds longest_wait{1};

Message address_message(int type, int flags, const DeviceRef& device, const Address& address) {
  ifaddrmsg info{};
  info.ifa_family = static_cast<uint8_t>(address.family);
  info.ifa_prefixlen = address.prefix_len;
  info.ifa_index = static_cast<uint32_t>(device.ifindex);
  const size_t size = address.family == AF_INET6 ? 16 : 4;
  Message message(type, flags);
  message.header(info)
      .put(IFA_LOCAL, address.bytes.data(), size)
      .put(IFA_ADDRESS, address.peer.value_or(address.bytes).data(), size);
  if (address.flags != 0) message.put_u32(IFA_FLAGS, address.flags);
  return message;
}

std::string written(int family, const std::array<uint8_t, 16>& bytes) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  inet_ntop(family, bytes.data(), text.data(), text.size());
  return text.data();
}

std::array<uint8_t, 16> copied(const std::vector<uint8_t>& from) {
  std::array<uint8_t, 16> to{};
  std::copy_n(from.begin(), std::min(from.size(), to.size()), to.begin());
  return to;
}

const char* advice(int family, int error) {
  if (error == EEXIST) return "the device has this address already";
  if (error == EACCES) return "IPv6 is disabled on the device or in its namespace";
  // ipv6_find_idev() in net/ipv6/addrconf.c, inetdev_event() in net/ipv4/devinet.c
  if (error == EINVAL && family == AF_INET6) return "a device has no IPv6 while its MTU is below 1280 bytes";
  if (error == ENOBUFS && family == AF_INET) return "a device has no IPv4 while its MTU is below 68 bytes";
  return device::advice(error);
}

}  // namespace

std::string text(const Address& address) {
  const std::string peer = address.peer ? " peer " + written(address.family, *address.peer) : "";
  return written(address.family, address.bytes) + peer + "/" + std::to_string(address.prefix_len);
}

void add(NetlinkSocket& netlink, const DeviceRef& device, const Address& address) {
  netlink.request({address_message(RTM_NEWADDR, NLM_F_REQUEST | NLM_F_CREATE | NLM_F_EXCL, device, address),
                   "add address " + text(address) + " to " + device.name,
                   {},
                   [family = address.family](int error) { return advice(family, error); }});
  if (address.family != AF_INET6 || (address.flags & IFA_F_NODAD) == 0) return;
  // A rule of ip-rule(8) may keep the kernel from ever delivering to it, and the address is there all the same.
  const auto end = std::chrono::steady_clock::now() + longest_wait;
  for (auto nap = shortest_nap; !is_delivered(netlink, device, address); nap = std::min(2 * nap, longest_nap)) {
    const bool is_up = (device::get(netlink, device).flags & IFF_UP) != 0;
    if (!is_up || std::chrono::steady_clock::now() > end) return;
    std::this_thread::sleep_for(nap);
  }
}

bool is_delivered(NetlinkSocket& netlink, const DeviceRef& device, const Address& address) {
  if (address.family != AF_INET6) return true;
  rtmsg info{};
  info.rtm_family = AF_INET6;
  info.rtm_dst_len = 128;
  info.rtm_flags = RTM_F_FIB_MATCH;
  Message message(RTM_GETROUTE, NLM_F_REQUEST);
  message.header(info)
      .put(RTA_DST, address.bytes.data(), address.bytes.size())
      .put_u32(RTA_OIF, static_cast<uint32_t>(device.ifindex));
  bool is_local = false;
  Request request{std::move(message), "look up the route to " + text(address),
                  [&](const nlmsghdr* header) { is_local = fixed_header<rtmsg>(header).rtm_type == RTN_LOCAL; },
                  device::advice};
  const bool is_refused = netlink.exchange({&request, 1}).front().has_value();  // by a rule, or there is no route
  return !is_refused && is_local;
}

void remove(NetlinkSocket& netlink, const DeviceRef& device, const Address& address) {
  Address found = address;
  if (!found.peer) {  // the kernel removes only an exact match (inet_rtm_deladdr() in net/ipv4/devinet.c)
    for (const Address& each : list(netlink, device)) {
      if (each.family != found.family || each.bytes != found.bytes || each.prefix_len != found.prefix_len) continue;
      if (!found.peer || !each.peer) found.peer = each.peer.value_or(each.bytes);
    }
  }
  netlink.request(
      {address_message(RTM_DELADDR, NLM_F_REQUEST, device, found),
       "remove address " + text(address) + " from " + device.name,
       {},
       [](int error) { return error == EADDRNOTAVAIL ? "the device has no such address" : device::advice(error); }});
}

std::vector<Address> list(NetlinkSocket& netlink, const DeviceRef& device) {
  ifaddrmsg info{};
  // Lists all devices: for a single device, the kernel does not report that the list changed while it was read
  // (inet_dump_addr() in net/ipv4/devinet.c and in net/ipv6/addrconf.c).
  info.ifa_family = AF_UNSPEC;
  Message message(RTM_GETADDR, NLM_F_REQUEST | NLM_F_DUMP);
  message.header(info);
  std::vector<Address> found;
  const auto take = [&](const nlmsghdr* header) {
    const auto& entry = fixed_header<ifaddrmsg>(header);
    if (entry.ifa_index != static_cast<uint32_t>(device.ifindex)) return;
    if (entry.ifa_family != AF_INET && entry.ifa_family != AF_INET6) return;
    const Attributes parsed(header, sizeof(ifaddrmsg), IFA_MAX);
    // For a point-to-point address, IFA_ADDRESS is the other end's; IFA_LOCAL, if present, is ours.
    const std::vector<uint8_t> other = parsed.bytes(IFA_ADDRESS);
    const std::vector<uint8_t> local = parsed[IFA_LOCAL] != nullptr ? parsed.bytes(IFA_LOCAL) : other;
    if (local.empty()) return;
    Address address{entry.ifa_family, copied(local), entry.ifa_prefixlen,
                    parsed.u32(IFA_FLAGS).value_or(entry.ifa_flags)};
    if (!other.empty() && other != local) address.peer = copied(other);
    found.push_back(address);
  };
  netlink.dump({std::move(message), "list the addresses of " + device.name, take, device::advice},
               [&] { found.clear(); });
  return found;
}

}  // namespace netkit_bpf::address
