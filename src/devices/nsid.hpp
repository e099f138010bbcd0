// SPDX-License-Identifier: MIT
// The ids that a namespace has for others (nsid): ip-netns(8), list-id.
#pragma once

#include <optional>

#include "base/netns.hpp"
#include "netlink/socket.hpp"

namespace netkit_bpf::nsid {

// The id of another namespace in the socket's namespace; empty if it has none.
std::optional<int> find(NetlinkSocket& netlink, const netns::Namespace& other);

// The id of another namespace in a third one, which is given by its id here.
std::optional<int> find_in(NetlinkSocket& netlink, int third, const netns::Namespace& other);

// The same as find(), but assigns an id if there is none. It lasts as long as the other namespace.
int find_or_assign(NetlinkSocket& netlink, const netns::Namespace& other);

}  // namespace netkit_bpf::nsid
