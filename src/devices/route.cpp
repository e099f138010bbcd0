// SPDX-License-Identifier: MIT
#include "devices/route.hpp"

#include <arpa/inet.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/error.hpp"
#include "netlink/attributes.hpp"

namespace netkit_bpf::route {

namespace {

size_t size_of(int family) { return family == AF_INET6 ? 16 : 4; }

std::string text(int family, const std::array<uint8_t, 16>& bytes) {
  std::array<char, INET6_ADDRSTRLEN> written{};
  inet_ntop(family, bytes.data(), written.data(), written.size());
  return written.data();
}

void put_gateway(Message& message, const Gateway& via, int family) {
  if (via.family == family) {
    message.put(RTA_GATEWAY, via.bytes.data(), size_of(family));
    return;
  }
  std::vector<uint8_t> value(sizeof(rtvia) + size_of(via.family));
  const auto number = static_cast<__kernel_sa_family_t>(via.family);
  std::memcpy(value.data(), &number, sizeof(number));
  std::copy_n(via.bytes.begin(), size_of(via.family), value.begin() + sizeof(rtvia));
  message.put(RTA_VIA, value.data(), value.size());
}

Message route_message(int type, int flags, const DeviceRef& device, const Route& route) {
  rtmsg info{};
  info.rtm_family = static_cast<uint8_t>(route.family);
  info.rtm_dst_len = route.prefix_len;
  info.rtm_table = RT_TABLE_MAIN;
  info.rtm_type = RTN_UNICAST;
  if (type == RTM_NEWROUTE) {
    info.rtm_protocol = RTPROT_BOOT;  // as ip-route(8) says of what is added by hand
    info.rtm_scope = route.via || route.family == AF_INET6 ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK;
  } else {
    info.rtm_scope = RT_SCOPE_NOWHERE;  // any
  }
  Message message(type, flags);
  message.header(info).put_u32(RTA_OIF, static_cast<uint32_t>(device.ifindex));
  if (route.prefix_len > 0) message.put(RTA_DST, route.bytes.data(), size_of(route.family));
  if (route.via) put_gateway(message, *route.via, route.family);
  return message;
}

const char* advice(int error) {
  switch (error) {
    case EEXIST:
      return "there is such a route already";
    case ESRCH:
      return "there is no such route over this device";
    case ENETDOWN:
      return "the device is down";
    case ENETUNREACH:
    case EHOSTUNREACH:
      return "the gateway is not on a network of this device: give the device an address there first";
    default:
      return device::advice(error);
  }
}

template <typename Bytes>
void copy(const Bytes& from, std::array<uint8_t, 16>& to) {
  std::copy_n(from.begin(), std::min(from.size(), to.size()), to.begin());
}

std::optional<Gateway> gateway(const Attributes& found, int family) {
  Gateway via;
  if (std::vector<uint8_t> value = found.bytes(RTA_GATEWAY); !value.empty()) {
    via.family = family;
    copy(value, via.bytes);
    return via;
  }
  if (std::vector<uint8_t> value = found.bytes(RTA_VIA); value.size() > sizeof(rtvia)) {
    __kernel_sa_family_t number = 0;
    std::memcpy(&number, value.data(), sizeof(number));
    via.family = number;
    value.erase(value.begin(), value.begin() + sizeof(rtvia));
    copy(value, via.bytes);
    return via;
  }
  return std::nullopt;
}

// One route for each next hop over the device.
void collect(const nlmsghdr* header, int ifindex, std::vector<Route>& into) {
  const auto* entry = static_cast<const rtmsg*>(nlmsg_data(header));
  if (entry->rtm_type != RTN_UNICAST || (entry->rtm_flags & RTM_F_CLONED) != 0) return;
  const Attributes found(header, sizeof(rtmsg), RTA_MAX);
  if (found.u32(RTA_TABLE).value_or(entry->rtm_table) != RT_TABLE_MAIN) return;
  Route route{entry->rtm_family, {}, entry->rtm_dst_len, {}};
  copy(found.bytes(RTA_DST), route.bytes);
  if (found.u32(RTA_OIF) == static_cast<uint32_t>(ifindex)) {
    route.via = gateway(found, route.family);
    into.push_back(route);
  }
  const nlattr* several = found[RTA_MULTIPATH];
  if (several == nullptr) return;
  auto left = nla_len(several);
  for (auto* hop = static_cast<rtnexthop*>(nla_data(several)); RTNH_OK(hop, left);
       left -= RTNH_ALIGN(hop->rtnh_len), hop = RTNH_NEXT(hop)) {
    if (hop->rtnh_ifindex != ifindex) continue;
    route.via = gateway(Attributes(reinterpret_cast<const nlattr*>(RTNH_DATA(hop)),
                                   static_cast<size_t>(hop->rtnh_len) - RTNH_LENGTH(0), RTA_MAX),
                        route.family);
    into.push_back(route);
  }
}

}  // namespace

std::string text(const Route& route) {
  const std::string dst = route.prefix_len == 0
                              ? std::string("default")
                              : text(route.family, route.bytes) + "/" + std::to_string(route.prefix_len);
  return dst + (route.via ? " via " + text(route.via->family, route.via->bytes) : "");
}

void add(NetlinkSocket& netlink, const DeviceRef& device, const Route& route) {
  netlink.request({route_message(RTM_NEWROUTE, NLM_F_REQUEST | NLM_F_CREATE | NLM_F_EXCL, device, route),
                   "add route " + text(route) + " over " + device.name,
                   {},
                   advice});
}

void remove(NetlinkSocket& netlink, const DeviceRef& device, const Route& route) {
  netlink.request({route_message(RTM_DELROUTE, NLM_F_REQUEST, device, route),
                   "remove route " + text(route) + " over " + device.name,
                   {},
                   advice});
}

std::vector<Route> list(NetlinkSocket& netlink, const DeviceRef& device) {
  std::vector<Route> all;
  for (const int family : {AF_INET, AF_INET6}) {
    rtmsg info{};
    info.rtm_family = static_cast<uint8_t>(family);
    Message message(RTM_GETROUTE, NLM_F_REQUEST | NLM_F_DUMP);
    message.header(info).put_u32(RTA_OIF, static_cast<uint32_t>(device.ifindex));
    std::vector<Route> found;
    netlink.dump({std::move(message), "list the routes over " + device.name,
                  [&](const nlmsghdr* header) { collect(header, device.ifindex, found); }, advice},
                 [&] { found.clear(); });
    all.insert(all.end(), found.begin(), found.end());
  }
  return all;
}

}  // namespace netkit_bpf::route
