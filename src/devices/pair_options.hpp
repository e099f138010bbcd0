// SPDX-License-Identifier: MIT
// Options of a new pair or single device, and the check that the kernel applied them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/netns.hpp"
#include "devices/device.hpp"

namespace netkit_bpf::netkit {

enum class Mode : uint32_t { l2 = 0, l3 = 1 };
enum class Policy : uint32_t { forward = 0, blackhole = 2 };
enum class Scrub : uint32_t { none = 0, standard = 1 };
enum class Pairing : uint32_t { pair = 0, single = 1 };

inline constexpr Words<Mode, 2> mode_words{{{"l2", Mode::l2}, {"l3", Mode::l3}}};
inline constexpr Words<Policy, 2> policy_words{{{"forward", Policy::forward}, {"blackhole", Policy::blackhole}}};
inline constexpr Words<Scrub, 2> scrub_words{{{"none", Scrub::none}, {"default", Scrub::standard}}};

struct PairOptions {
  // "veth" makes a veth pair from the same message, which ignores the netkit attributes: for measurements without
  // netkit.
  std::string kind = "netkit";
  DeviceOptions primary;
  DeviceOptions peer;
  Pairing pairing = Pairing::pair;  // single: the options of the peer are ignored
  Mode mode = Mode::l3;
  Policy policy = Policy::forward;
  Policy peer_policy = Policy::forward;
  // Empty: "none" if the kernel supports it, else the kernel's default.
  std::optional<Scrub> scrub;
  std::optional<Scrub> peer_scrub;
  std::optional<uint16_t> headroom;
  std::optional<uint16_t> tailroom;
  std::optional<netns::Namespace> peer_netns;  // empty: the primary's
  bool up = true;
};

// The request that creates it. The echo of the kernel fills `made` with the primary and the peer's index: no look-up by
// name, so no race.
Request creating(const PairOptions& options, int peer_netns_fd, DeviceInfo& made);

// Throws what a refusal of that request means, if the kernel gives only an errno.
void throw_if_not_supported(const Error& refusal, const PairOptions& options);

// A kernel silently ignores attributes that it does not know: 6.12 asked for what 7.1 brought makes a plain pair.
// Throws NotSupported with the name of an attribute that was given but not applied.
void check_taken(const PairOptions& options, const NetkitAttributes& taken);
void check_taken(const DeviceOptions& wanted, const DeviceInfo& taken);

}  // namespace netkit_bpf::netkit
