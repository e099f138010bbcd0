// SPDX-License-Identifier: MIT
// Making netkit pairs and single devices, and changing their policies.
// Source: drivers/net/netkit.c and include/uapi/linux/if_link.h.
#pragma once

#include <span>
#include <vector>

#include "devices/pair_options.hpp"

namespace netkit_bpf::netkit {

struct Order {
  const PairOptions* options;
  NetlinkSocket* peer_netlink;  // in the namespace that the options name for the peer
};

struct Pair {
  DeviceInfo primary;
  DeviceInfo peer;
};

// Creates pairs, their primaries in the namespace of `netlink`: all of them, or none on any failure. Then nothing
// remains, and nothing that existed is touched. One send creates up to 32 pairs, and one more in each namespace
// configures them. Devices are configured by the number that the kernel gave them, because a name may belong to another
// device.
std::vector<Pair> create(NetlinkSocket& netlink, std::span<const Order> orders);

// Creates a device without a peer (Linux 7.1).
DeviceInfo create_single(NetlinkSocket& netlink, const PairOptions& options);

// Changes one side's policy, through the primary; a change through the peer is refused with EACCES.
void set_policy(NetlinkSocket& netlink, const DeviceRef& primary, Policy policy, bool of_peer);

}  // namespace netkit_bpf::netkit
