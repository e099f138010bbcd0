// SPDX-License-Identifier: MIT
#include "device.hpp"

#include <linux/if.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/net_namespace.h>
#include <linux/rtnetlink.h>
#include <netlink/attr.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "error.hpp"
#include "netkit_attributes.hpp"

namespace netkit_bpf::device {

namespace {

using Attributes = std::vector<nlattr*>;

Attributes parse_nest(const nlattr* nest, int highest) {
  Attributes table(static_cast<size_t>(highest) + 1);
  if (nest != nullptr && nla_parse_nested(table.data(), highest, const_cast<nlattr*>(nest), nullptr) < 0)
    table.assign(table.size(), nullptr);
  return table;
}

std::optional<uint32_t> u32(const nlattr* attribute) {
  return attribute != nullptr ? std::optional(nla_get_u32(attribute)) : std::nullopt;
}

std::optional<uint16_t> u16(const nlattr* attribute) {
  return attribute != nullptr ? std::optional(nla_get_u16(attribute)) : std::nullopt;
}

NetkitAttributes parse_netkit(const nlattr* data) {
  const Attributes found = parse_nest(data, netkit::attribute::last);
  NetkitAttributes netkit;
  if (const nlattr* primary = found[netkit::attribute::primary]) netkit.primary = nla_get_u8(primary) != 0;
  netkit.mode = u32(found[netkit::attribute::mode]);
  netkit.policy = u32(found[netkit::attribute::policy]);
  netkit.peer_policy = u32(found[netkit::attribute::peer_policy]);
  netkit.scrub = u32(found[netkit::attribute::scrub]);
  netkit.peer_scrub = u32(found[netkit::attribute::peer_scrub]);
  netkit.headroom = u16(found[netkit::attribute::headroom]);
  netkit.tailroom = u16(found[netkit::attribute::tailroom]);
  return netkit;
}

ifinfomsg info_of(int ifindex) {
  ifinfomsg info{};
  info.ifi_family = AF_UNSPEC;
  info.ifi_index = ifindex;
  return info;
}

std::string numbered(int ifindex) { return "device " + std::to_string(ifindex); }

const char* advice(int error) {
  if (error == EPERM || error == EACCES) return "needs CAP_NET_ADMIN in the device's network namespace";
  if (error == ENODEV) return "deleted, moved, or never in this network namespace";
  return "";
}

Message address_message(int type, int flags, int ifindex, const Address& address) {
  ifaddrmsg info{};
  info.ifa_family = static_cast<uint8_t>(address.family);
  info.ifa_prefixlen = address.prefix_len;
  info.ifa_index = static_cast<uint32_t>(ifindex);
  if (address.family == AF_INET6 && address.nodad) info.ifa_flags = IFA_F_NODAD;
  const size_t size = address.family == AF_INET6 ? 16 : 4;
  Message message(type, flags);
  message.header(info).put(IFA_LOCAL, address.bytes.data(), size).put(IFA_ADDRESS, address.bytes.data(), size);
  return message;
}

DeviceInfo get(Netlink& netlink, const ifinfomsg& info, const std::string& name, const std::string& operation) {
  Message message(RTM_GETLINK, NLM_F_REQUEST);
  message.header(info);
  if (!name.empty()) message.put_string(IFLA_IFNAME, name);
  DeviceInfo found;
  netlink.request(message, operation, [&](const nlmsghdr* header) { found = parse(header); }, advice);
  return found;
}

}  // namespace

DeviceInfo parse(const nlmsghdr* header) {
  DeviceInfo device;
  Attributes found(IFLA_MAX + 1);
  if (nlmsg_parse(const_cast<nlmsghdr*>(header), sizeof(ifinfomsg), found.data(), IFLA_MAX, nullptr) < 0)
    throw Error(EBADMSG, "read a device from the kernel");
  const auto* info = static_cast<const ifinfomsg*>(nlmsg_data(header));
  device.ifindex = info->ifi_index;
  device.flags = info->ifi_flags;
  if (found[IFLA_IFNAME] != nullptr) device.name = nla_get_string(found[IFLA_IFNAME]);
  device.mtu = u32(found[IFLA_MTU]).value_or(0);
  device.link = static_cast<int>(u32(found[IFLA_LINK]).value_or(0));
  if (const auto netnsid = u32(found[IFLA_LINK_NETNSID])) device.link_netnsid = static_cast<int>(*netnsid);
  if (const nlattr* mac = found[IFLA_ADDRESS]) {
    const auto* bytes = static_cast<const uint8_t*>(nla_data(mac));
    device.mac.assign(bytes, bytes + nla_len(mac));
  }
  const Attributes link_info = parse_nest(found[IFLA_LINKINFO], IFLA_INFO_MAX);
  if (link_info[IFLA_INFO_KIND] != nullptr) device.kind = nla_get_string(link_info[IFLA_INFO_KIND]);
  if (device.kind == "netkit") device.netkit = parse_netkit(link_info[IFLA_INFO_DATA]);
  return device;
}

DeviceInfo get(Netlink& netlink, const std::string& name) {
  return get(netlink, info_of(0), name, "look up device " + name);
}

DeviceInfo get(Netlink& netlink, int ifindex) {
  return get(netlink, info_of(ifindex), "", "look up " + numbered(ifindex));
}

void set_up(Netlink& netlink, int ifindex, bool up) {
  ifinfomsg info = info_of(ifindex);
  info.ifi_flags = up ? IFF_UP : 0;
  info.ifi_change = IFF_UP;
  Message message(RTM_NEWLINK, NLM_F_REQUEST);
  netlink.request(message.header(info), "set " + numbered(ifindex) + (up ? " up" : " down"), {}, advice);
}

void set_automatic_link_local(Netlink& netlink, int ifindex, bool automatic) {
  Message message(RTM_SETLINK, NLM_F_REQUEST);
  message.header(info_of(ifindex)).nest(IFLA_AF_SPEC, [&](Message& families) {
    families.nest(AF_INET6, [&](Message& inet6) {
      inet6.put_u8(IFLA_INET6_ADDR_GEN_MODE, automatic ? IN6_ADDR_GEN_MODE_EUI64 : IN6_ADDR_GEN_MODE_NONE);
    });
  });
  netlink.request(message, "set addrgenmode of " + numbered(ifindex), {},
                  [](int error) { return error == EAFNOSUPPORT ? "this kernel runs without IPv6" : advice(error); });
}

void add_address(Netlink& netlink, int ifindex, const Address& address, const std::string& text) {
  const Message message = address_message(RTM_NEWADDR, NLM_F_REQUEST | NLM_F_CREATE | NLM_F_EXCL, ifindex, address);
  netlink.request(message, "add address " + text + " to " + numbered(ifindex), {}, [](int error) {
    if (error == EEXIST) return "the device has this address already";
    if (error == EACCES) return "IPv6 is disabled on the device or in its namespace";
    return advice(error);
  });
}

void remove_address(Netlink& netlink, int ifindex, const Address& address, const std::string& text) {
  const Message message = address_message(RTM_DELADDR, NLM_F_REQUEST, ifindex, address);
  netlink.request(message, "remove address " + text + " from " + numbered(ifindex), {},
                  [](int error) { return error == EADDRNOTAVAIL ? "the device has no such address" : advice(error); });
}

std::vector<Address> addresses(Netlink& netlink, int ifindex) {
  ifaddrmsg info{};
  info.ifa_family = AF_UNSPEC;
  Message message(RTM_GETADDR, NLM_F_REQUEST | NLM_F_DUMP);
  std::vector<Address> found;
  netlink.request(message.header(info), "list the addresses of " + numbered(ifindex), [&](const nlmsghdr* header) {
    const auto* entry = static_cast<const ifaddrmsg*>(nlmsg_data(header));
    if (entry->ifa_index != static_cast<uint32_t>(ifindex)) return;
    Attributes parsed(IFA_MAX + 1);
    if (nlmsg_parse(const_cast<nlmsghdr*>(header), sizeof(ifaddrmsg), parsed.data(), IFA_MAX, nullptr) < 0) return;
    // IFA_ADDRESS is the other end's on a point-to-point address; IFA_LOCAL, where there is one, is ours.
    const nlattr* local = parsed[IFA_LOCAL] != nullptr ? parsed[IFA_LOCAL] : parsed[IFA_ADDRESS];
    if (local == nullptr) return;
    Address address;
    address.family = entry->ifa_family;
    address.prefix_len = entry->ifa_prefixlen;
    std::memcpy(address.bytes.data(), nla_data(local), std::min<size_t>(static_cast<size_t>(nla_len(local)), 16));
    found.push_back(address);
  });
  return found;
}

std::optional<int> netns_id(Netlink& netlink, int netns_fd) {
  Message message(RTM_GETNSID, NLM_F_REQUEST);
  message.header(rtgenmsg{}).put_u32(NETNSA_FD, static_cast<uint32_t>(netns_fd));
  std::optional<int> id;
  netlink.request(message, "look up the number of a network namespace", [&](const nlmsghdr* header) {
    Attributes found(NETNSA_MAX + 1);
    if (nlmsg_parse(const_cast<nlmsghdr*>(header), sizeof(rtgenmsg), found.data(), NETNSA_MAX, nullptr) < 0) return;
    if (const auto number = u32(found[NETNSA_NSID])) id = static_cast<int>(*number);
  });
  if (id == NETNSA_NSID_NOT_ASSIGNED) id.reset();
  return id;
}

bool remove(Netlink& netlink, int ifindex) {
  Message message(RTM_DELLINK, NLM_F_REQUEST);
  try {
    netlink.request(message.header(info_of(ifindex)), "delete " + numbered(ifindex), {}, advice);
  } catch (const Error& error) {
    if (error.number() == ENODEV) return false;
    throw;
  }
  return true;
}

}  // namespace netkit_bpf::device
