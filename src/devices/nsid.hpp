// SPDX-License-Identifier: MIT
// The numbers by which one namespace knows others: ip-netns(8), list-id.
#pragma once

#include <optional>

#include "netlink/socket.hpp"

namespace netkit_bpf::nsid {

// The number by which the socket's namespace knows another one; empty where it has none.
std::optional<int> find(NetlinkSocket& netlink, int netns_fd);

// The same; one is given where there is none. It is gone with the other namespace.
int find_or_assign(NetlinkSocket& netlink, int netns_fd);

}  // namespace netkit_bpf::nsid
