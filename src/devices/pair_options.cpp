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

void put_peer(Message& message, const Spec& spec, int peer_netns_fd) {
  message.put_u32(attribute::peer_policy, static_cast<uint32_t>(spec.peer_policy));
  message.put_u32(attribute::peer_scrub, static_cast<uint32_t>(spec.peer_scrub.value_or(Scrub::none)));
  message.nest(attribute::peer_info, [&](Message& peer) {
    ifinfomsg info{};
    info.ifi_index = spec.peer.ifindex.value_or(0);
    peer.append(&info, sizeof(info));
    put_at_creation(peer, spec.peer);
    if (peer_netns_fd >= 0) peer.put_u32(IFLA_NET_NS_FD, static_cast<uint32_t>(peer_netns_fd));
  });
}

void put_data(Message& message, const Spec& spec, int peer_netns_fd) {
  message.put_u32(attribute::mode, static_cast<uint32_t>(spec.mode));
  message.put_u32(attribute::policy, static_cast<uint32_t>(spec.policy));
  if (spec.headroom) message.put_u16(attribute::headroom, *spec.headroom);
  if (spec.tailroom) message.put_u16(attribute::tailroom, *spec.tailroom);
  if (spec.pairing == Pairing::single) {  // with any word about a peer or scrubbing it would be refused
    message.put_u32(attribute::pairing, static_cast<uint32_t>(spec.pairing));
  } else {
    message.put_u32(attribute::scrub, static_cast<uint32_t>(spec.scrub.value_or(Scrub::none)));
    put_peer(message, spec, peer_netns_fd);
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

// What to look for: a newer kernel, or one of the same age with the driver in it.
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

Request creating(const Spec& spec, int peer_netns_fd, DeviceInfo& made) {
  const bool single = spec.pairing == Pairing::single;
  ifinfomsg info{};
  info.ifi_index = spec.primary.ifindex.value_or(0);
  Message message(RTM_NEWLINK, NLM_F_REQUEST | NLM_F_CREATE | NLM_F_EXCL | NLM_F_ECHO);
  message.header(info);
  put_at_creation(message, spec.primary);
  message.nest(IFLA_LINKINFO, [&](Message& kind) {
    kind.put_string(IFLA_INFO_KIND, spec.kind);
    kind.nest(IFLA_INFO_DATA, [&](Message& data) { put_data(data, spec, peer_netns_fd); });
  });
  return {std::move(message), std::string("create netkit ") + (single ? "device " : "pair ") + spec.primary.name,
          [&made](const nlmsghdr* header) {
            if (header->nlmsg_type == RTM_NEWLINK) made = device::parse(header);
          },
          [primary = spec.primary, peer = single ? DeviceOptions() : spec.peer](int error) {
            return explain_creation(error, primary, peer);
          }};
}

void throw_if_not_supported(const Error& refusal, const Spec& spec) {
  if (refusal.number() != EOPNOTSUPP) return;
  if (std::string(refusal.what()).find("Unknown device type") != std::string::npos)
    throw NotSupported("netkit devices", "6.7", missing_part());
  for (const DeviceOptions* end : {&spec.primary, &spec.peer}) {
    if (end->numbers.at(link_number("num_tx_queues")).value_or(1) > 1)
      throw NotSupported("device attribute num_tx_queues", "", "newer kernels give netkit devices one transmit queue");
  }
}

void check_taken(const Spec& spec, const NetkitAttributes& taken) {
  if (spec.kind != "netkit") return;
  const bool single = spec.pairing == Pairing::single;
  if (single && differs(std::optional(spec.pairing), taken.pairing)) throw NotSupported("single netkit devices", "7.1");
  if (differs(spec.scrub, taken.scrub) || (!single && differs(spec.peer_scrub, taken.peer_scrub)))
    throw NotSupported("netkit attribute scrub", "6.13", "or 6.12.4");
  if (differs(spec.headroom, taken.headroom)) throw NotSupported("netkit attribute headroom", "6.14");
  if (differs(spec.tailroom, taken.tailroom)) throw NotSupported("netkit attribute tailroom", "6.14");
  if (differs(std::optional(spec.mode), taken.mode) || differs(std::optional(spec.policy), taken.policy) ||
      (!single && differs(std::optional(spec.peer_policy), taken.peer_policy)))
    throw Error(EPROTO, "create netkit device " + spec.primary.name, "the kernel made one with other attributes");
}

void check_taken(const DeviceOptions& wanted, const DeviceInfo& taken) {
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

}  // namespace netkit_bpf::netkit
