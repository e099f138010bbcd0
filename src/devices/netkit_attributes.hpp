// SPDX-License-Identifier: MIT
// The attributes of a netkit device: their numbers in messages, and the values that were read.
#pragma once

#include <cstdint>
#include <optional>

// IFLA_NETKIT_*, by number because the system's headers may be older than the attributes.
namespace netkit_bpf::netkit::attribute {

enum : int {
  peer_info = 1,
  primary = 2,
  policy = 3,
  peer_policy = 4,
  mode = 5,
  scrub = 6,
  peer_scrub = 7,
  headroom = 8,
  tailroom = 9,
  pairing = 10,
  last = pairing,
};

}  // namespace netkit_bpf::netkit::attribute

namespace netkit_bpf {

// The netkit attributes of a device as its own side sees them; empty where this kernel has no such attribute.
struct NetkitAttributes {
  std::optional<bool> primary;
  std::optional<uint32_t> mode;
  std::optional<uint32_t> policy;
  std::optional<uint32_t> peer_policy;
  std::optional<uint32_t> scrub;
  std::optional<uint32_t> peer_scrub;
  std::optional<uint16_t> headroom;
  std::optional<uint16_t> tailroom;
  std::optional<uint32_t> pairing;
};

}  // namespace netkit_bpf
