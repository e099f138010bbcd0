// SPDX-License-Identifier: MIT
// A pcap-filter(7) expression, compiled by libpcap to classic BPF for Ethernet frames.
//
// libpcap is not a dependency: it is loaded when the first expression is compiled.
#pragma once

#include <linux/filter.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace netkit_bpf::expression {

// Throws std::invalid_argument with libpcap's own text and the place of a syntax error; Error if there is no libpcap.
// Names of hosts, ports and protocols are looked up, which can take as long as the resolver does.
std::vector<sock_filter> compile(const std::string& text);

// A frame of which only the first bytes may be there.
struct Captured {
  std::span<const uint8_t> bytes;
  uint32_t length = 0;
};
// Which of the frames match, a byte for each, as libpcap finds for a program that it compiled. An empty program matches
// none.
std::vector<uint8_t> match(const std::vector<sock_filter>& program, std::span<const Captured> frames);

}  // namespace netkit_bpf::expression
