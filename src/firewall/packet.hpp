// SPDX-License-Identifier: MIT
// What a rule can ask of a packet.
#pragma once

#include <netkit_bpf/firewall.h>

#include <cstdint>

#include "firewall/rule.hpp"

namespace netkit_bpf::firewall {

// The defaults are those of a packet that has nothing of it.
struct Packet {
  Side side = Side::primary;
  Family family = Family::other;
  Address src{};
  Address dst{};
  uint32_t fragment = NK_WHOLE;
  uint32_t protocol = NK_FW_HIDDEN;
  uint32_t src_port = NK_FW_ABSENT;  // or ICMP's type
  uint32_t dst_port = NK_FW_ABSENT;  // or ICMP's code
  uint32_t tcp_flags = NK_FW_ABSENT;
  uint32_t length = 0;
};

// The one packet that a rule describes, from an address to an address. Without flags a TCP packet has SYN, without a
// code an ICMP message has 0, and without a length a packet has nothing behind its headers. Throws
// std::invalid_argument that says what is missing or too much. What says nothing of one packet does not count: side,
// log, rate and label.
Packet packet_of(const Rule& rule, Side side);

}  // namespace netkit_bpf::firewall
