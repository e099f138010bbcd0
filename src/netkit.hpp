// SPDX-License-Identifier: MIT
// netkit pairs: one message to create both ends, and what the kernel made of it.
// Source: drivers/net/netkit.c and include/uapi/linux/if_link.h.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "device.hpp"

namespace netkit_bpf::netkit {

enum class Mode : uint32_t { l2 = 0, l3 = 1 };
enum class Policy : uint32_t { forward = 0, blackhole = 2 };
enum class Scrub : uint32_t { none = 0, standard = 1 };

enum class Pairing : uint32_t { pair = 0, single = 1 };

struct Spec {
  LinkOptions primary;
  LinkOptions peer;
  Mode mode = Mode::l3;
  Policy policy = Policy::forward;
  Policy peer_policy = Policy::forward;
  // Empty: "none" where the kernel can, else what the kernel does.
  std::optional<Scrub> scrub;
  std::optional<Scrub> peer_scrub;
  std::optional<uint16_t> headroom;
  std::optional<uint16_t> tailroom;
  std::string peer_netns;  // path of the peer's namespace (see netns.hpp); empty: the primary's
  bool up = true;
};

struct Pair {
  DeviceInfo primary;
  DeviceInfo peer;
};

// Creates a pair, its primary in the namespace of `netlink`, its peer in that of `peer_netlink`, which is
// the one that the spec names. On any failure nothing remains of it, and nothing that was there is touched.
Pair create(Netlink& netlink, Netlink& peer_netlink, const Spec& spec);

// Changes one side's policy, through the primary; a change through the peer is refused with EACCES.
void set_policy(Netlink& netlink, const DeviceRef& primary, Policy policy, bool of_peer);

}  // namespace netkit_bpf::netkit
