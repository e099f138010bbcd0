// SPDX-License-Identifier: MIT
// The numbers by which one namespace knows others: ip-netns(8), list-id.
#pragma once

#include <optional>

#include "base/netns.hpp"
#include "netlink/socket.hpp"

namespace netkit_bpf::nsid {

// The number by which the socket's namespace knows another one; empty where it has none.
std::optional<int> find(NetlinkSocket& netlink, const netns::Namespace& other);

// The number by which a third one knows it; that one goes by its number here.
std::optional<int> find_in(NetlinkSocket& netlink, int third, const netns::Namespace& other);

// The same; one is given where there is none. It is gone with the other namespace.
int find_or_assign(NetlinkSocket& netlink, const netns::Namespace& other);

}  // namespace netkit_bpf::nsid
