// SPDX-License-Identifier: MIT
#include "devices/device.hpp"

#include <linux/if.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/error.hpp"
#include "netlink/attributes.hpp"

namespace netkit_bpf::device {

namespace {

// The system's IFLA_MAX may be lower than what is read here.
constexpr int last_attribute = 64;
constexpr int alternative_name = 53;  // IFLA_ALT_IFNAME

NetkitAttributes parse_netkit(const nlattr* data) {
  const Attributes found(data, netkit::attribute::last);
  NetkitAttributes netkit;
  if (const auto primary = found.u8(netkit::attribute::primary)) netkit.primary = *primary != 0;
  netkit.mode = found.u32(netkit::attribute::mode);
  netkit.policy = found.u32(netkit::attribute::policy);
  netkit.peer_policy = found.u32(netkit::attribute::peer_policy);
  netkit.scrub = found.u32(netkit::attribute::scrub);
  netkit.peer_scrub = found.u32(netkit::attribute::peer_scrub);
  netkit.headroom = found.u16(netkit::attribute::headroom);
  netkit.tailroom = found.u16(netkit::attribute::tailroom);
  netkit.pairing = found.u32(netkit::attribute::pairing);
  return netkit;
}

std::vector<uint64_t> parse_statistics(const std::vector<uint8_t>& raw) {
  std::vector<uint64_t> numbers(raw.size() / sizeof(uint64_t));
  if (!numbers.empty()) std::memcpy(numbers.data(), raw.data(), numbers.size() * sizeof(uint64_t));
  return numbers;
}

ifinfomsg info_of(int ifindex) {
  ifinfomsg info{};
  info.ifi_family = AF_UNSPEC;
  info.ifi_index = ifindex;
  return info;
}

bool done_unless_gone(NetlinkSocket& netlink, Request request) {
  try {
    netlink.request(std::move(request));
  } catch (const Error& error) {
    if (error.number() == ENODEV) return false;
    throw;
  }
  return true;
}

}  // namespace

const char* advice(int error) {
  if (error == EPERM || error == EACCES) return "needs CAP_NET_ADMIN in the device's network namespace";
  if (error == ENODEV) return "deleted, moved, or never in this network namespace";
  return "";
}

DeviceInfo parse(const nlmsghdr* header) {
  const Attributes found(header, sizeof(ifinfomsg), last_attribute);
  const auto& info = fixed_header<ifinfomsg>(header);
  DeviceInfo device;
  device.ifindex = info.ifi_index;
  device.flags = info.ifi_flags;
  device.name = found.text(IFLA_IFNAME);
  device.alias = found.text(IFLA_IFALIAS);
  for (size_t i = 0; i < link_numbers.size(); ++i) device.numbers.at(i) = found.u32(link_numbers.at(i).attribute);
  device.mac = found.bytes(IFLA_ADDRESS);
  const Attributes inet6(Attributes(found[IFLA_AF_SPEC], AF_INET6)[AF_INET6], IFLA_INET6_ADDR_GEN_MODE);
  device.addrgenmode = inet6.u8(IFLA_INET6_ADDR_GEN_MODE);
  device.link = static_cast<int>(found.u32(IFLA_LINK).value_or(0));
  if (const auto netnsid = found.u32(IFLA_LINK_NETNSID)) device.link_netnsid = static_cast<int>(*netnsid);
  device.master = static_cast<int>(found.u32(IFLA_MASTER).value_or(0));
  device.statistics = parse_statistics(found.bytes(IFLA_STATS64));
  const Attributes link_info(found[IFLA_LINKINFO], IFLA_INFO_MAX);
  device.kind = link_info.text(IFLA_INFO_KIND);
  if (device.kind == "netkit") device.netkit = parse_netkit(link_info[IFLA_INFO_DATA]);
  return device;
}

Request getting(const DeviceRef& device, DeviceInfo& into) {
  Message message(RTM_GETLINK, NLM_F_REQUEST);
  message.header(info_of(device.ifindex));
  // The kernel finds alternative names by either, but takes no long ones by the first.
  if (device.ifindex == 0)
    message.put_string(device.name.size() < IFNAMSIZ ? IFLA_IFNAME : alternative_name, device.name);
  return {std::move(message), "look up device " + device.name,
          [&into](const nlmsghdr* header) { into = parse(header); }, advice};
}

DeviceInfo get(NetlinkSocket& netlink, const DeviceRef& device) {
  DeviceInfo found;
  netlink.request(getting(device, found));
  return found;
}

DeviceInfo get(NetlinkSocket& netlink, const std::string& name) { return get(netlink, DeviceRef{0, name}); }

DeviceInfo get(NetlinkSocket& netlink, int ifindex) {
  return get(netlink, DeviceRef{ifindex, std::to_string(ifindex)});
}

bool exists(NetlinkSocket& netlink, const std::string& name) {
  DeviceInfo unused;
  return done_unless_gone(netlink, getting(DeviceRef{0, name}, unused));
}

std::vector<DeviceInfo> list(NetlinkSocket& netlink, const std::string& kind) {
  Message message(RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP);
  // With any such mask the kernel makes room for the largest device. Without one it silently leaves out devices whose
  // message exceeds a page, such as one with many alternative names (rtnl_calcit() in net/core/rtnetlink.c).
  message.header(info_of(0)).put_u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS).nest(IFLA_LINKINFO, [&](Message& info) {
    info.put_string(IFLA_INFO_KIND, kind);
  });
  std::vector<DeviceInfo> found;
  const auto take = [&](const nlmsghdr* header) {
    DeviceInfo device = parse(header);
    if (kind.empty() || device.kind == kind) found.push_back(std::move(device));  // a kernel without the kind lists all
  };
  netlink.dump({std::move(message), "list the " + kind + (kind.empty() ? "" : " ") + "devices", take, advice},
               [&] { found.clear(); });
  return found;
}

Request setting_up(const DeviceRef& device, bool up) {
  ifinfomsg info = info_of(device.ifindex);
  info.ifi_flags = up ? IFF_UP : 0;
  info.ifi_change = IFF_UP;
  Message message(RTM_NEWLINK, NLM_F_REQUEST);
  message.header(info);
  return {std::move(message), "set " + device.name + (up ? " up" : " down"), {}, advice};
}

void set_up(NetlinkSocket& netlink, const DeviceRef& device, bool up) {
  netlink.request(setting_up(device, up));
  if (up) static_cast<void>(get(netlink, device));
}

Request changing(const DeviceRef& device, const DeviceOptions& options, const std::string& operation) {
  Message message(RTM_SETLINK, NLM_F_REQUEST);
  message.header(info_of(device.ifindex));
  put_changes(message, options);
  return {std::move(message), operation, {}, [has_mac = options.mac.has_value()](int error) {
            if (error == EAFNOSUPPORT) return "IPv6 is missing or disabled, or the MTU is below its 1280 bytes";
            if (error == EOPNOTSUPP && has_mac)
              return "the device takes no MAC address, like netkit devices in l3 mode";
            return advice(error);
          }};
}

void change(NetlinkSocket& netlink, const DeviceRef& device, const DeviceOptions& options,
            const std::string& operation) {
  netlink.request(changing(device, options, operation));
}

void rename(NetlinkSocket& netlink, const DeviceRef& device, const std::string& name) {
  Message message(RTM_SETLINK, NLM_F_REQUEST);
  message.header(info_of(device.ifindex)).put_string(IFLA_IFNAME, name);
  const auto explain = [&](int error) {
    if (error == EEXIST) return "there is a device " + name + " already";
    if (error == EBUSY) return std::string("before Linux 6.2 a device must be down for that");
    return std::string(advice(error));
  };
  netlink.request({std::move(message), "rename " + device.name + " to " + name, {}, explain});
}

DeviceInfo move(NetlinkSocket& from, const DeviceRef& device, NetlinkSocket& to, const netns::Namespace& to_space) {
  const DeviceInfo before = get(from, device);
  const auto use = to_space.use();
  Message message(RTM_NEWLINK, NLM_F_REQUEST);
  message.header(info_of(device.ifindex)).put_u32(IFLA_NET_NS_FD, static_cast<uint32_t>(use.fd()));
  const auto explain = [&](int error) {
    if (error == EEXIST) return "there is a device " + before.name + " already";
    if (error == EINVAL) return std::string("this device cannot leave its network namespace");
    return std::string(advice(error));
  };
  from.request({std::move(message), "move " + before.name + " to another network namespace", {}, explain});
  const DeviceInfo after = get(to, before.name);
  if (!before.addrgenmode || after.addrgenmode == before.addrgenmode) return after;
  DeviceOptions kept;
  kept.addrgenmode = before.addrgenmode;
  change(to, {after.ifindex, after.name}, kept, "set the addrgenmode of " + after.name);
  return after;
}

Request removing(const DeviceRef& device) {
  Message message(RTM_DELLINK, NLM_F_REQUEST);
  message.header(info_of(device.ifindex));
  return {std::move(message), "delete " + device.name, {}, advice};
}

bool remove(NetlinkSocket& netlink, const DeviceRef& device) { return done_unless_gone(netlink, removing(device)); }

bool remove_group(NetlinkSocket& netlink, uint32_t group) {
  Message message(RTM_DELLINK, NLM_F_REQUEST);
  message.header(info_of(0)).put_u32(IFLA_GROUP, group);
  return done_unless_gone(
      netlink, {std::move(message), "delete the devices of group " + std::to_string(group), {}, [](int error) {
                  return error == EOPNOTSUPP ? "a device of the group cannot be deleted" : advice(error);
                }});
}

}  // namespace netkit_bpf::device
