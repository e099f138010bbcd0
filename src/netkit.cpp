// SPDX-License-Identifier: MIT
#include "netkit.hpp"

#include <linux/if.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <exception>
#include <sstream>
#include <utility>

#include "error.hpp"
#include "handle.hpp"
#include "netns.hpp"

namespace netkit_bpf::netkit {

namespace {

void put_data(Message& message, const Spec& spec, int peer_netns) {
  message.put_u32(attribute::mode, static_cast<uint32_t>(spec.mode));
  message.put_u32(attribute::policy, static_cast<uint32_t>(spec.policy));
  message.put_u32(attribute::peer_policy, static_cast<uint32_t>(spec.peer_policy));
  message.put_u32(attribute::scrub, static_cast<uint32_t>(spec.scrub.value_or(Scrub::none)));
  message.put_u32(attribute::peer_scrub, static_cast<uint32_t>(spec.peer_scrub.value_or(Scrub::none)));
  if (spec.headroom) message.put_u16(attribute::headroom, *spec.headroom);
  if (spec.tailroom) message.put_u16(attribute::tailroom, *spec.tailroom);
  message.nest(attribute::peer_info, [&](Message& peer) {
    ifinfomsg info{};
    info.ifi_index = spec.peer.ifindex.value_or(0);
    peer.append(&info, sizeof(info));
    put_at_creation(peer, spec.peer);
    if (peer_netns >= 0) peer.put_u32(IFLA_NET_NS_FD, static_cast<uint32_t>(peer_netns));
  });
}

Message creation(const Spec& spec, int peer_netns) {
  ifinfomsg info{};
  info.ifi_index = spec.primary.ifindex.value_or(0);
  Message message(RTM_NEWLINK, NLM_F_REQUEST | NLM_F_CREATE | NLM_F_EXCL | NLM_F_ECHO);
  message.header(info);
  put_at_creation(message, spec.primary);
  message.nest(IFLA_LINKINFO, [&](Message& kind) {
    kind.put_string(IFLA_INFO_KIND, "netkit");
    kind.nest(IFLA_INFO_DATA, [&](Message& data) { put_data(data, spec, peer_netns); });
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
  const bool numbered = spec.primary.ifindex || spec.peer.ifindex;
  switch (error) {
    case EPERM:
      return "needs CAP_NET_ADMIN over the network namespaces of both ends";
    case EEXIST:
      return "a device named " + spec.primary.name + " or " + spec.peer.name + " is there already" +
             (numbered ? ", or one with that ifindex" : "");
    case EBUSY:
      return numbered ? "the ifindex is taken" : "";
    default:
      return {};
  }
}

template <typename Wanted, typename Found>
bool differs(const std::optional<Wanted>& wanted, const Found& found) {
  if constexpr (requires { found.has_value(); }) {
    return wanted && (!found || static_cast<uint32_t>(*found) != static_cast<uint32_t>(*wanted));
  } else {
    return wanted && *wanted != found;
  }
}

// A kernel silently ignores attributes that it does not know: 6.12 asked for what 7.1 brought makes a plain pair.
void check_taken(const Spec& spec, const NetkitAttributes& taken) {
  if (differs(spec.scrub, taken.scrub) || differs(spec.peer_scrub, taken.peer_scrub))
    throw NotSupported("netkit attribute scrub", "6.13", "or 6.12.4");
  if (differs(spec.headroom, taken.headroom)) throw NotSupported("netkit attribute headroom", "6.14");
  if (differs(spec.tailroom, taken.tailroom)) throw NotSupported("netkit attribute tailroom", "6.14");
  if (differs(std::optional(spec.mode), taken.mode) || differs(std::optional(spec.policy), taken.policy) ||
      differs(std::optional(spec.peer_policy), taken.peer_policy))
    throw Error(EPROTO, "create netkit pair " + spec.primary.name, "the kernel made a pair with other attributes");
}

void check_taken(const LinkOptions& wanted, const DeviceInfo& taken) {
  const auto refuse = [&](const std::string& attribute) {
    throw NotSupported("device attribute " + attribute, "", "the kernel did not take it for " + wanted.name);
  };
  if (wanted.mac && !std::equal(wanted.mac->begin(), wanted.mac->end(), taken.mac.begin(), taken.mac.end()))
    throw NotSupported("netkit attribute mac", "6.10");
  if (differs(wanted.ifindex, taken.ifindex)) refuse("ifindex");
  if (differs(wanted.alias, taken.alias)) refuse("alias");
  if (differs(wanted.addrgenmode, taken.addrgenmode)) refuse("addrgenmode");
  for (size_t i = 0; i < link_numbers.size(); ++i) {
    if (differs(wanted.numbers.at(i), taken.numbers.at(i))) refuse(link_numbers.at(i).name);
  }
}

void set_later(Netlink& netlink, const DeviceRef& device, const LinkOptions& wanted, Mode mode) {
  LinkOptions later;
  later.alias = wanted.alias;
  later.addrgenmode = wanted.addrgenmode;
  // Without a MAC both ends would get the same link-local address, fe80::200:ff:fe00:0.
  if (mode == Mode::l3 && !later.addrgenmode) later.addrgenmode = IN6_ADDR_GEN_MODE_NONE;
  const auto set = [&] {
    if (later.alias || later.addrgenmode)
      device::change(netlink, device, later, "set alias and addrgenmode of " + wanted.name);
  };
  try {
    set();
  } catch (const Error& error) {
    if (error.number() != EAFNOSUPPORT || wanted.addrgenmode) throw;
    later.addrgenmode.reset();  // no IPv6, no such address
    set();
  }
}

void configure(Netlink& netlink, const LinkOptions& wanted, const Spec& spec, DeviceInfo& end) {
  const DeviceRef device{end.ifindex, wanted.name};
  set_later(netlink, device, wanted, spec.mode);       // before it is up: then it makes its address
  if (spec.up) device::set_up(netlink, device, true);  // the kernel ignores IFF_UP of the peer at creation
  end = device::get(netlink, device);
  check_taken(wanted, end);
}

// Why the kernel says no more than EOPNOTSUPP.
void throw_if_not_supported(const Error& error, const Spec& spec) {
  if (error.number() != EOPNOTSUPP) return;
  if (std::string(error.what()).find("Unknown device type") != std::string::npos)
    throw NotSupported("netkit devices", "6.7", missing_part());
  for (const LinkOptions* end : {&spec.primary, &spec.peer}) {
    if (end->numbers.at(link_number("num_tx_queues")).value_or(1) > 1)
      throw NotSupported("device attribute num_tx_queues", "", "newer kernels give netkit devices one transmit queue");
  }
}

// The primary as the kernel made it, by the echo, with the peer's index: no look-up by name, no race.
DeviceInfo make(Netlink& netlink, const Spec& spec, int peer_netns) {
  DeviceInfo primary;
  try {
    netlink.request(
        creation(spec, peer_netns), "create netkit pair " + spec.primary.name,
        [&](const nlmsghdr* header) {
          if (header->nlmsg_type == RTM_NEWLINK) primary = device::parse(header);
        },
        [&](int error) { return explain_creation(error, spec); });
  } catch (const Error& error) {
    throw_if_not_supported(error, spec);
    throw;
  }
  return primary;
}

}  // namespace

Pair create(Netlink& netlink, Netlink& peer_netlink, const Spec& spec) {
  const Fd peer_netns = spec.peer_netns.empty() ? Fd() : netns::open_path(spec.peer_netns);
  Pair pair;
  try {
    pair.primary = make(netlink, spec, peer_netns.get());
  } catch (const Error& error) {
    // The peer registers first, and in a young namespace it may take the very number that the primary was to
    // have. Numbers are given out in turn, so that the next one is another.
    if (error.number() != EBUSY || !spec.primary.ifindex || spec.peer.ifindex) throw;
    pair.primary = make(netlink, spec, peer_netns.get());
  }
  pair.peer.ifindex = pair.primary.link;
  try {
    check_taken(spec, pair.primary.netkit);
    configure(netlink, spec.primary, spec, pair.primary);
    configure(peer_netlink, spec.peer, spec, pair.peer);
  } catch (...) {
    const std::exception_ptr failure = std::current_exception();
    try {
      device::remove(netlink, {pair.primary.ifindex, spec.primary.name});
    } catch (const Error&) {  // what failed first is what the caller needs to read
    }
    std::rethrow_exception(failure);
  }
  return pair;
}

void set_policy(Netlink& netlink, const DeviceRef& primary, Policy policy, bool of_peer) {
  ifinfomsg header{};
  header.ifi_index = primary.ifindex;
  Message message(RTM_NEWLINK, NLM_F_REQUEST);
  message.header(header).nest(IFLA_LINKINFO, [&](Message& info) {
    info.put_string(IFLA_INFO_KIND, "netkit");
    info.nest(IFLA_INFO_DATA, [&](Message& data) {
      data.put_u32(of_peer ? attribute::peer_policy : attribute::policy, static_cast<uint32_t>(policy));
    });
  });
  netlink.request(message, "set the policy of " + primary.name, {}, device::advice);
}

}  // namespace netkit_bpf::netkit
