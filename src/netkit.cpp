// SPDX-License-Identifier: MIT
#include "netkit.hpp"

#include <linux/if.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <cerrno>
#include <exception>
#include <sstream>
#include <utility>

#include "error.hpp"
#include "handle.hpp"
#include "netns.hpp"

namespace netkit_bpf::netkit {

namespace {

void put_ends(Message& message, const Spec& spec, int peer_netns) {
  message.put_u32(attribute::mode, static_cast<uint32_t>(spec.mode));
  message.put_u32(attribute::policy, static_cast<uint32_t>(spec.policy));
  message.put_u32(attribute::peer_policy, static_cast<uint32_t>(spec.peer_policy));
  message.put_u32(attribute::scrub, static_cast<uint32_t>(spec.scrub.value_or(Scrub::none)));
  message.put_u32(attribute::peer_scrub, static_cast<uint32_t>(spec.peer_scrub.value_or(Scrub::none)));
  if (spec.headroom) message.put_u16(attribute::headroom, *spec.headroom);
  if (spec.tailroom) message.put_u16(attribute::tailroom, *spec.tailroom);
  message.nest(attribute::peer_info, [&](Message& peer) {
    const ifinfomsg info{};
    peer.append(&info, sizeof(info));
    peer.put_string(IFLA_IFNAME, spec.peer_name);
    if (const auto mtu = spec.peer_mtu ? spec.peer_mtu : spec.mtu) peer.put_u32(IFLA_MTU, *mtu);
    if (spec.peer_mac) peer.put(IFLA_ADDRESS, spec.peer_mac->data(), spec.peer_mac->size());
    if (peer_netns >= 0) peer.put_u32(IFLA_NET_NS_FD, static_cast<uint32_t>(peer_netns));
  });
}

Message creation(const Spec& spec, int peer_netns) {
  Message message(RTM_NEWLINK, NLM_F_REQUEST | NLM_F_CREATE | NLM_F_EXCL | NLM_F_ECHO);
  message.header(ifinfomsg{}).put_string(IFLA_IFNAME, spec.name);
  if (spec.mtu) message.put_u32(IFLA_MTU, *spec.mtu);
  if (spec.mac) message.put(IFLA_ADDRESS, spec.mac->data(), spec.mac->size());
  message.nest(IFLA_LINKINFO, [&](Message& info) {
    info.put_string(IFLA_INFO_KIND, "netkit");
    info.nest(IFLA_INFO_DATA, [&](Message& data) { put_ends(data, spec, peer_netns); });
  });
  return message;
}

// What to look for: a newer kernel, or one of the same age with the driver in it.
const char* missing_part() {
  int major = 0;
  int minor = 0;
  std::istringstream release(kernel_release());
  release >> major;
  release.ignore();
  release >> minor;
  const bool new_enough = std::pair(major, minor) >= std::pair(6, 7);
  return new_enough ? "or later built with CONFIG_NETKIT=y, and this one was built without"
                    : "or later built with CONFIG_NETKIT=y";
}

std::string explain_creation(int error, const Spec& spec) {
  switch (error) {
    case EPERM:
      return "needs CAP_NET_ADMIN over the network namespaces of both ends";
    case EEXIST:
      return "a device named " + spec.name + " or " + spec.peer_name + " is there already";
    default:
      return {};
  }
}

// A kernel silently ignores attributes that it does not know: 6.12 asked for what 7.1 brought makes a plain pair.
void check_taken(const Spec& spec, const NetkitAttributes& taken) {
  const auto mismatch = [](const auto& wanted, const auto& found) {
    return wanted && (!found || static_cast<uint32_t>(*found) != static_cast<uint32_t>(*wanted));
  };
  if (mismatch(spec.scrub, taken.scrub) || mismatch(spec.peer_scrub, taken.peer_scrub))
    throw NotSupported("netkit attribute scrub", "6.13", "or 6.12.4");
  if (mismatch(spec.headroom, taken.headroom)) throw NotSupported("netkit attribute headroom", "6.14");
  if (mismatch(spec.tailroom, taken.tailroom)) throw NotSupported("netkit attribute tailroom", "6.14");
  if (mismatch(std::optional(spec.mode), taken.mode) || mismatch(std::optional(spec.policy), taken.policy) ||
      mismatch(std::optional(spec.peer_policy), taken.peer_policy))
    throw Error(EPROTO, "create netkit pair " + spec.name, "the kernel made a pair with other attributes");
}

void configure(const Spec& spec, Netlink& netlink, Netlink& peer_netlink, Pair& pair) {
  check_taken(spec, pair.primary.netkit);
  if (spec.mode == Mode::l3) {
    // Without a MAC both ends would get the same link-local address, fe80::200:ff:fe00:0.
    for (auto [socket, end] : {std::pair(&netlink, &pair.primary), std::pair(&peer_netlink, &pair.peer)}) {
      try {
        device::set_automatic_link_local(*socket, end->ifindex, false);
      } catch (const Error& error) {
        if (error.number() != EAFNOSUPPORT) throw;  // no IPv6, no such address
      }
    }
  }
  if (spec.up) {  // IFF_UP of the peer is ignored at creation
    device::set_up(netlink, pair.primary.ifindex, true);
    device::set_up(peer_netlink, pair.peer.ifindex, true);
  }
  pair.primary = device::get(netlink, pair.primary.ifindex);
  pair.peer = device::get(peer_netlink, pair.peer.ifindex);
}

}  // namespace

Pair create(const Spec& spec) {
  Netlink netlink(spec.netns);
  const std::string& peer_path = spec.peer_netns.empty() ? spec.netns : spec.peer_netns;
  Netlink peer_netlink(peer_path);
  const Fd peer_netns = peer_path.empty() ? Fd() : netns::open_path(peer_path);

  Pair pair;
  try {
    // The echo is the primary as the kernel made it, with the peer's index: no look-up by name, no race.
    netlink.request(
        creation(spec, peer_netns.get()), "create netkit pair " + spec.name,
        [&](const nlmsghdr* header) {
          if (header->nlmsg_type == RTM_NEWLINK) pair.primary = device::parse(header);
        },
        [&](int error) { return explain_creation(error, spec); });
  } catch (const Error& error) {
    if (error.number() == EOPNOTSUPP && std::string(error.what()).find("Unknown device type") != std::string::npos)
      throw NotSupported("netkit devices", "6.7", missing_part());
    throw;
  }
  pair.peer.ifindex = pair.primary.link;
  try {
    configure(spec, netlink, peer_netlink, pair);
  } catch (...) {
    const std::exception_ptr failure = std::current_exception();
    try {
      device::remove(netlink, pair.primary.ifindex);
    } catch (const Error&) {  // what failed first is what the caller needs to read
    }
    std::rethrow_exception(failure);
  }
  return pair;
}

void set_policy(Netlink& netlink, int ifindex, Policy policy, bool of_peer) {
  ifinfomsg header{};
  header.ifi_index = ifindex;
  Message message(RTM_NEWLINK, NLM_F_REQUEST);
  message.header(header).nest(IFLA_LINKINFO, [&](Message& info) {
    info.put_string(IFLA_INFO_KIND, "netkit");
    info.nest(IFLA_INFO_DATA, [&](Message& data) {
      data.put_u32(of_peer ? attribute::peer_policy : attribute::policy, static_cast<uint32_t>(policy));
    });
  });
  netlink.request(message, "set the policy of device " + std::to_string(ifindex), {}, [](int error) {
    return std::string(error == EPERM ? "needs CAP_NET_ADMIN in the device's network namespace" : "");
  });
}

}  // namespace netkit_bpf::netkit
