// SPDX-License-Identifier: MIT
// What a new pair, or a single device, shall be; and whether the kernel made it so.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/netns.hpp"
#include "devices/address.hpp"
#include "devices/device.hpp"

namespace netkit_bpf::netkit {

enum class Mode : uint32_t { l2 = 0, l3 = 1 };
enum class Policy : uint32_t { forward = 0, blackhole = 2 };
enum class Scrub : uint32_t { none = 0, standard = 1 };
enum class Pairing : uint32_t { pair = 0, single = 1 };

inline constexpr Words<Mode, 2> mode_words{{{"l2", Mode::l2}, {"l3", Mode::l3}}};
inline constexpr Words<Policy, 2> policy_words{{{"forward", Policy::forward}, {"blackhole", Policy::blackhole}}};
inline constexpr Words<Scrub, 2> scrub_words{{{"none", Scrub::none}, {"default", Scrub::standard}}};

struct Spec {
  // "veth" makes a veth pair of the very same message, which ignores what is netkit's own: for measuring where there
  // is no netkit.
  std::string kind = "netkit";
  DeviceOptions primary;
  DeviceOptions peer;
  Pairing pairing = Pairing::pair;  // single: what is said of the peer does not count
  Mode mode = Mode::l3;
  Policy policy = Policy::forward;
  Policy peer_policy = Policy::forward;
  // Empty: "none" where the kernel can, else what the kernel does.
  std::optional<Scrub> scrub;
  std::optional<Scrub> peer_scrub;
  std::optional<uint16_t> headroom;
  std::optional<uint16_t> tailroom;
  std::optional<netns::Namespace> peer_netns;  // empty: the primary's
  bool up = true;
  std::vector<Address> addresses;  // to be had from the beginning
  std::vector<Address> peer_addresses;
};

// The request that creates it. The primary as the kernel made it goes into `made`, by the echo, with the peer's
// index: no look-up by name, no race.
Request creating(const Spec& spec, int peer_netns_fd, DeviceInfo& made);

// What a refusal of that request means, where the kernel says no more than an errno.
void throw_if_not_supported(const Error& refusal, const Spec& spec);

// A kernel silently ignores attributes that it does not know: 6.12 asked for what 7.1 brought makes a plain pair.
// Throws NotSupported, by name, for what was asked and not taken.
void check_taken(const Spec& spec, const NetkitAttributes& taken);
void check_taken(const DeviceOptions& wanted, const DeviceInfo& taken);

}  // namespace netkit_bpf::netkit
