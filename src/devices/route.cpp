// SPDX-License-Identifier: MIT
#include "devices/route.hpp"

#include <arpa/inet.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <functional>
#include <initializer_list>
#include <utility>

#include "base/bytes.hpp"
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

Message adding(const DeviceRef& device, const Route& route) {
  rtmsg info{};
  info.rtm_family = static_cast<uint8_t>(route.family);
  info.rtm_dst_len = route.prefix_len;
  info.rtm_table = RT_TABLE_MAIN;
  info.rtm_type = RTN_UNICAST;
  info.rtm_protocol = RTPROT_BOOT;  // as ip-route(8) does for routes added by hand
  info.rtm_scope = route.via || route.family == AF_INET6 ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK;
  Message message(RTM_NEWROUTE, NLM_F_REQUEST | NLM_F_CREATE | NLM_F_EXCL);
  message.header(info).put_u32(RTA_OIF, static_cast<uint32_t>(device.ifindex));
  if (route.prefix_len > 0) message.put(RTA_DST, route.bytes.data(), size_of(route.family));
  if (route.via) put_gateway(message, *route.via, route.family);
  return message;
}

const char* advice(int family, int error) {
  switch (error) {
    case EEXIST:
      return "this route exists already";
    case ESRCH:
      return "there is no such route over this device";
    case ENETDOWN:
      return "the device is down";
    case ENETUNREACH:
    case EHOSTUNREACH:
      return "the gateway is not on a network of this device: give the device an address there first";
    case ENODEV:
      return family == AF_INET6 ? "the device is gone, or has no IPv6: is its MTU below 1280 bytes?"
                                : device::advice(error);
    case EACCES:
      return family == AF_INET6 ? "IPv6 is disabled on the device or in its namespace" : device::advice(error);
    default:
      return device::advice(error);
  }
}

std::function<std::string(int)> explain(int family) {
  return [family](int error) { return advice(family, error); };
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

// One of several next hops: struct rtnexthop and its attributes.
using Hop = std::vector<uint8_t>;

rtnexthop header_of(const Hop& hop) {
  rtnexthop header{};
  std::memcpy(&header, hop.data(), sizeof(header));
  return header;
}

std::vector<Hop> hops_of(const Attributes& found) {
  const std::vector<uint8_t> all = found.bytes(RTA_MULTIPATH);
  std::vector<Hop> hops;
  for (size_t at = 0; fits(at, sizeof(rtnexthop), all.size());) {
    const auto size = copy_at<rtnexthop>(all, at).rtnh_len;
    if (size < sizeof(rtnexthop) || !fits(at, size, all.size())) break;
    hops.emplace_back(&all[at], &all[at] + size);
    at += RTNH_ALIGN(size);
  }
  return hops;
}

// A route as the kernel lists it, and which of its next hops is meant, if there are several.
struct Listed {
  Route route;
  std::vector<uint8_t> message;
  std::optional<size_t> hop;

  [[nodiscard]] const nlmsghdr* header() const { return reinterpret_cast<const nlmsghdr*>(message.data()); }
  [[nodiscard]] Attributes attributes() const { return {header(), sizeof(rtmsg), RTA_MAX}; }
};

// One entry for each next hop over the device.
void collect(const nlmsghdr* header, int ifindex, std::vector<Listed>& into) {
  const auto& entry = fixed_header<rtmsg>(header);
  if (entry.rtm_type != RTN_UNICAST || (entry.rtm_flags & RTM_F_CLONED) != 0) return;
  const Attributes found(header, sizeof(rtmsg), RTA_MAX);
  if (found.u32(RTA_TABLE).value_or(entry.rtm_table) != RT_TABLE_MAIN) return;
  Route route{entry.rtm_family, {}, entry.rtm_dst_len, {}};
  copy(found.bytes(RTA_DST), route.bytes);
  const auto* raw = reinterpret_cast<const uint8_t*>(header);
  const std::vector<uint8_t> message(raw, raw + header->nlmsg_len);
  if (found.u32(RTA_OIF) == static_cast<uint32_t>(ifindex)) {
    route.via = gateway(found, route.family);
    into.push_back({route, message, {}});
  }
  const std::vector<Hop> hops = hops_of(found);
  for (size_t i = 0; i < hops.size(); ++i) {
    if (header_of(hops[i]).rtnh_ifindex != ifindex) continue;
    route.via = gateway(Attributes(reinterpret_cast<const nlattr*>(&hops[i][sizeof(rtnexthop)]),
                                   hops[i].size() - sizeof(rtnexthop), RTA_MAX),
                        route.family);
    into.push_back({route, message, i});
  }
}

std::vector<Listed> list(NetlinkSocket& netlink, const DeviceRef& device, int family) {
  rtmsg info{};
  info.rtm_family = static_cast<uint8_t>(family);
  Message message(RTM_GETROUTE, NLM_F_REQUEST | NLM_F_DUMP);
  message.header(info).put_u32(RTA_OIF, static_cast<uint32_t>(device.ifindex));
  std::vector<Listed> found;
  netlink.dump({std::move(message), "list the routes over " + device.name,
                [&](const nlmsghdr* header) { collect(header, device.ifindex, found); }, device::advice},
               [&] { found.clear(); });
  return found;
}

void put_again(Message& message, const Attributes& found, std::initializer_list<int> numbers) {
  for (const int number : numbers) {
    if (found[number] == nullptr) continue;
    const std::vector<uint8_t> value = found.bytes(number);
    message.put(number, value.data(), value.size());
  }
}

void put_hops(Message& message, const std::vector<Hop>& hops) {
  std::vector<uint8_t> all;
  for (const Hop& hop : hops) {
    rtnexthop header = header_of(hop);
    header.rtnh_flags &= RTNH_F_ONLINK;  // the other flags are state
    Hop copied = hop;
    std::memcpy(copied.data(), &header, sizeof(header));
    copied.resize(RTNH_ALIGN(copied.size()));
    all.insert(all.end(), copied.begin(), copied.end());
  }
  message.put(RTA_MULTIPATH, all.data(), all.size());
}

Message message_like(const Listed& listed, int type, int flags) {
  rtmsg info = fixed_header<rtmsg>(listed.header());
  info.rtm_flags = 0;
  Message message(type, flags);
  message.header(info);
  put_again(message, listed.attributes(), {RTA_DST, RTA_SRC, RTA_PRIORITY, RTA_TABLE, RTA_PREFSRC});
  return message;
}

// Takes off the whole route, or what is left of it are these hops.
Message removing(const Listed& listed, const std::vector<Hop>& hops) {
  Message message = message_like(listed, RTM_DELROUTE, NLM_F_REQUEST);
  const Attributes found = listed.attributes();
  if (found[RTA_NH_ID] !=
      nullptr) {  // a next hop beside it is refused (rtm_to_fib_config() in net/ipv4/fib_frontend.c)
    put_again(message, found, {RTA_NH_ID});
  } else if (!hops.empty()) {
    put_hops(message, hops);
  } else {
    put_again(message, found, {RTA_OIF, RTA_GATEWAY, RTA_VIA});
  }
  return message;
}

// Whether two routes are equal in all that tells routes apart, except their next hops.
bool is_alike(const Listed& one, const Listed& other) {
  const auto& a = fixed_header<rtmsg>(one.header());
  const auto& b = fixed_header<rtmsg>(other.header());
  const Attributes in_a = one.attributes();
  const Attributes in_b = other.attributes();
  return a.rtm_tos == b.rtm_tos && a.rtm_protocol == b.rtm_protocol && a.rtm_scope == b.rtm_scope &&
         a.rtm_src_len == b.rtm_src_len && in_a.u32(RTA_PRIORITY) == in_b.u32(RTA_PRIORITY) &&
         in_a.bytes(RTA_SRC) == in_b.bytes(RTA_SRC) && one.route.prefix_len == other.route.prefix_len &&
         one.route.bytes == other.route.bytes;
}

// Whether the kernel would remove `first` instead of `second`, which is listed after it: it removes the first route
// that matches all given attributes (fib_nh_match() in net/ipv4/fib_semantics.c, ip6_route_del() in net/ipv6/route.c).
bool hides(const Listed& first, const Listed& second) {
  if (first.message == second.message || second.attributes()[RTA_NH_ID] != nullptr || !is_alike(first, second))
    return false;
  const bool by_object = first.attributes()[RTA_NH_ID] != nullptr;
  return second.route.family == AF_INET6 ? by_object || !second.route.via : !by_object && !second.route.via;
}

// The kernel can address one hop of several only in IPv6, and only if the route itself lists them.
void remove_hop(NetlinkSocket& netlink, const Listed& listed, size_t hop, const std::string& operation) {
  const std::vector<Hop> hops = hops_of(listed.attributes());
  std::vector<Hop> left = hops;
  left.erase(left.begin() + static_cast<std::ptrdiff_t>(hop));
  const bool by_object = listed.attributes()[RTA_NH_ID] != nullptr;
  if (left.empty() || (listed.route.family == AF_INET6 && !by_object)) {
    netlink.request({removing(listed, {hops[hop]}), operation, {}, explain(listed.route.family)});
    return;
  }
  // A route over the other hops replaces it. It is added first, so that there is a route at any time.
  Message rest = message_like(listed, RTM_NEWROUTE, NLM_F_REQUEST | NLM_F_CREATE | NLM_F_APPEND);
  put_again(rest, listed.attributes(), {RTA_METRICS});
  put_hops(rest, left);
  bool is_new = true;
  try {
    netlink.request({std::move(rest), operation, {}, explain(listed.route.family)});
  } catch (const Error& error) {
    if (error.number() != EEXIST) throw;  // it exists already
    is_new = false;
  }
  try {
    netlink.request({removing(listed, hops), operation, {}, explain(listed.route.family)});
  } catch (const Error&) {
    if (is_new) {
      Message undo = message_like(listed, RTM_DELROUTE, NLM_F_REQUEST);
      put_hops(undo, left);
      Request request{std::move(undo), operation, {}, {}};
      static_cast<void>(netlink.exchange({&request, 1}));
    }
    throw;
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
  netlink.request(
      {adding(device, route), "add route " + text(route) + " over " + device.name, {}, explain(route.family)});
}

void remove(NetlinkSocket& netlink, const DeviceRef& device, const Route& route) {
  const std::string operation = "remove route " + text(route) + " over " + device.name;
  const std::vector<Listed> all = list(netlink, device, route.family);
  const auto is_meant = [&](const Listed& each) { return each.route == route; };
  const auto found = std::find_if(all.begin(), all.end(), is_meant);
  if (found == all.end()) throw Error(ESRCH, operation, advice(route.family, ESRCH));
  const auto taken = std::find_if(all.begin(), found, [&](const Listed& each) { return hides(each, *found); });
  if (taken != found)
    throw Error(EBUSY, operation, "the kernel would take off " + text(taken->route) + " instead: remove that first");
  if (found->hop) {
    remove_hop(netlink, *found, *found->hop, operation);
    return;
  }
  netlink.request({removing(*found, {}), operation, {}, explain(route.family)});
}

std::vector<Route> list(NetlinkSocket& netlink, const DeviceRef& device) {
  std::vector<Route> all;
  for (const int family : {AF_INET, AF_INET6}) {
    for (const Listed& each : list(netlink, device, family)) all.push_back(each.route);
  }
  return all;
}

}  // namespace netkit_bpf::route
