// SPDX-License-Identifier: MIT
// A pcap-filter(7) expression, compiled by libpcap to classic BPF for Ethernet frames.
//
// libpcap is no dependency: it is loaded when the first expression is compiled.
#pragma once

#include <linux/filter.h>

#include <string>
#include <vector>

namespace netkit_bpf::expression {

// Throws std::invalid_argument with libpcap's own words, and where a syntax error stands; Error where there is no
// libpcap. Names of hosts, ports and protocols are looked up, which can take as long as the resolver does.
std::vector<sock_filter> compile(const std::string& text);

}  // namespace netkit_bpf::expression
