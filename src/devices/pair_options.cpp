// SPDX-License-Identifier: MIT
#include "devices/pair_options.hpp"

#include <linux/if_link.h>
#include <linux/rtnetlink.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/error.hpp"
#include "base/kernel_release.hpp"

namespace netkit_bpf::netkit {

namespace {

void put_peer(Message& message, const PairOptions& options, int peer_netns_fd) {
  message.put_u32(attribute::peer_policy, static_cast<uint32_t>(options.peer_policy));
  message.put_u32(attribute::peer_scrub, static_cast<uint32_t>(options.peer_scrub.value_or(Scrub::none)));
  message.nest(attribute::peer_info, [&](Message& peer) {
    ifinfomsg info{};
    info.ifi_index = options.peer.ifindex.value_or(0);
    peer.append(&info, sizeof(info));
    put_at_creation(peer, options.peer);
    if (peer_netns_fd >= 0) peer.put_u32(IFLA_NET_NS_FD, static_cast<uint32_t>(peer_netns_fd));
  });
}

void put_data(Message& message, const PairOptions& options, int peer_netns_fd) {
  message.put_u32(attribute::mode, static_cast<uint32_t>(options.mode));
  message.put_u32(attribute::policy, static_cast<uint32_t>(options.policy));
  if (options.headroom) message.put_u16(attribute::headroom, *options.headroom);
  if (options.tailroom) message.put_u16(attribute::tailroom, *options.tailroom);
  if (options.pairing == Pairing::single) {  // any peer or scrub attribute would be refused
    message.put_u32(attribute::pairing, static_cast<uint32_t>(options.pairing));
  } else {
    message.put_u32(attribute::scrub, static_cast<uint32_t>(options.scrub.value_or(Scrub::none)));
    put_peer(message, options, peer_netns_fd);
  }
}

std::string explain_creation(int error, const DeviceOptions& primary, const DeviceOptions& peer) {
  const bool numbered = primary.ifindex || peer.ifindex;
  switch (error) {
    case EPERM:
      return "needs CAP_NET_ADMIN over the network namespaces of both ends";
    case EEXIST:
      return "a device named " + primary.name + (peer.name.empty() ? "" : " or " + peer.name) + " is there already" +
             (numbered ? ", or one with that ifindex" : "");
    case EBUSY:
      return numbered ? "the ifindex is taken" : "";
    default:
      return {};
  }
}

// What is needed: a newer kernel, or one built with the driver.
const char* missing_part() {
  return is_at_least(kernel_release(), 6, 7) ? "or later built with CONFIG_NETKIT=y, and this one was built without"
                                             : "or later built with CONFIG_NETKIT=y";
}

template <typename Wanted, typename Found>
bool differs(const std::optional<Wanted>& wanted, const Found& found) {
  if constexpr (requires { found.has_value(); }) {
    return wanted && (!found || static_cast<uint32_t>(*found) != static_cast<uint32_t>(*wanted));
  } else {
    return wanted && *wanted != found;
  }
}

}  // namespace

Request creating(const PairOptions& options, int peer_netns_fd, DeviceInfo& made) {
  const bool single = options.pairing == Pairing::single;
  ifinfomsg info{};
  info.ifi_index = options.primary.ifindex.value_or(0);
  Message message(RTM_NEWLINK, NLM_F_REQUEST | NLM_F_CREATE | NLM_F_EXCL | NLM_F_ECHO);
  message.header(info);
  put_at_creation(message, options.primary);
  message.nest(IFLA_LINKINFO, [&](Message& kind) {
    kind.put_string(IFLA_INFO_KIND, options.kind);
    kind.nest(IFLA_INFO_DATA, [&](Message& data) { put_data(data, options, peer_netns_fd); });
  });
  return {std::move(message), std::string("create netkit ") + (single ? "device " : "pair ") + options.primary.name,
          [&made](const nlmsghdr* header) {
            if (header->nlmsg_type == RTM_NEWLINK) made = device::parse(header);
          },
          [primary = options.primary, peer = single ? DeviceOptions() : options.peer](int error) {
            return explain_creation(error, primary, peer);
          }};
}

void throw_if_not_supported(const Error& refusal, const PairOptions& options) {
  if (refusal.number() != EOPNOTSUPP) return;
  if (std::string(refusal.what()).find("Unknown device type") != std::string::npos)
    throw NotSupported("netkit devices", "6.7", missing_part());
  if (options.mode == Mode::l2 && std::string(refusal.what()).find("Setting Ethernet address") != std::string::npos)
    throw NotSupported("a MAC address of one's own for a netkit device", "6.10");
  for (const DeviceOptions* end : {&options.primary, &options.peer}) {
    if (end->numbers.at(link_number("num_tx_queues")).value_or(1) > 1)
      throw NotSupported("device attribute num_tx_queues", "", "newer kernels give netkit devices one transmit queue");
  }
}

void check_taken(const PairOptions& options, const NetkitAttributes& taken) {
  if (options.kind != "netkit") return;
  const bool single = options.pairing == Pairing::single;
  if (single && differs(std::optional(options.pairing), taken.pairing))
    throw NotSupported("single netkit devices", "7.1");
  if (differs(options.scrub, taken.scrub) || (!single && differs(options.peer_scrub, taken.peer_scrub)))
    throw NotSupported("netkit attribute scrub", "6.13", "or 6.12.4");
  if (differs(options.headroom, taken.headroom)) throw NotSupported("netkit attribute headroom", "6.14");
  if (differs(options.tailroom, taken.tailroom)) throw NotSupported("netkit attribute tailroom", "6.14");
  if (differs(std::optional(options.mode), taken.mode) || differs(std::optional(options.policy), taken.policy) ||
      (!single && differs(std::optional(options.peer_policy), taken.peer_policy)))
    throw Error(EPROTO, "create netkit device " + options.primary.name, "the kernel made one with other attributes");
}

void check_taken(const DeviceOptions& wanted, const DeviceInfo& taken) {
  const auto refuse = [&](const std::string& attribute) {
    throw NotSupported("device attribute " + attribute, "", "the kernel ignored it for " + wanted.name);
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

}  // namespace netkit_bpf::netkit
