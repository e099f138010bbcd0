// SPDX-License-Identifier: MIT
// Making netkit pairs and single devices, and changing their policies.
// Source: drivers/net/netkit.c and include/uapi/linux/if_link.h.
#pragma once

#include <span>
#include <vector>

#include "devices/pair_options.hpp"

namespace netkit_bpf::netkit {

struct Order {
  const Spec* spec;
  NetlinkSocket* peer_netlink;  // in the namespace that the spec names for the peer
};

struct Pair {
  DeviceInfo primary;
  DeviceInfo peer;
};

// Creates pairs, their primaries in the namespace of `netlink`: all, or on any failure none. Nothing remains then
// and nothing that was there is touched. One send for the creation of (up to 32) pairs, one for the rest in each
// namespace: what is set on a device goes by the number that the kernel gave it, for a name may be a stranger's.
std::vector<Pair> create(NetlinkSocket& netlink, std::span<const Order> orders);

// Creates a device without a peer (Linux 7.1).
DeviceInfo create_single(NetlinkSocket& netlink, const Spec& spec);

// Changes one side's policy, through the primary; a change through the peer is refused with EACCES.
void set_policy(NetlinkSocket& netlink, const DeviceRef& primary, Policy policy, bool of_peer);

}  // namespace netkit_bpf::netkit
