// SPDX-License-Identifier: MIT
// netkit pairs: one message to create both ends, and what the kernel made of it.
// Source: drivers/net/netkit.c and include/uapi/linux/if_link.h.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "device.hpp"

namespace netkit_bpf::netkit {

enum class Mode : uint32_t { l2 = 0, l3 = 1 };
enum class Policy : uint32_t { forward = 0, blackhole = 2 };
enum class Scrub : uint32_t { none = 0, standard = 1 };

struct Spec {
  std::string name;
  std::string peer_name;
  Mode mode = Mode::l3;
  Policy policy = Policy::forward;
  Policy peer_policy = Policy::forward;
  // Empty: "none" where the kernel can, else what the kernel does.
  std::optional<Scrub> scrub;
  std::optional<Scrub> peer_scrub;
  std::optional<uint16_t> headroom;
  std::optional<uint16_t> tailroom;
  std::optional<uint32_t> mtu;
  std::optional<uint32_t> peer_mtu;
  std::optional<std::array<uint8_t, 6>> mac;
  std::optional<std::array<uint8_t, 6>> peer_mac;
  std::string netns;       // of the primary
  std::string peer_netns;  // of the peer; empty: the primary's
  bool up = true;
};

struct Pair {
  DeviceInfo primary;
  DeviceInfo peer;
};

// Creates a pair. On any failure nothing remains of it, and nothing that was there before is touched.
Pair create(const Spec& spec);

// Changes one side's policy, through the primary; a change through the peer is refused with EACCES.
void set_policy(Netlink& netlink, int ifindex, Policy policy, bool of_peer);

}  // namespace netkit_bpf::netkit
