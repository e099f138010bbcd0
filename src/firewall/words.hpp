// SPDX-License-Identifier: MIT
// The words of rules, which are those of pf.conf(5) and pcap-filter(7).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace netkit_bpf::firewall {

// "tcp"; a number where there is no word.
std::string protocol_word(uint8_t number);
std::optional<uint8_t> protocol_number(std::string_view word);
bool has_ports(uint8_t protocol);

// "echoreq". ICMP and ICMPv6 have different numbers.
std::string icmp_type_word(uint8_t protocol, uint8_t number);
std::optional<uint8_t> icmp_type_number(uint8_t protocol, std::string_view word);

// "s", "min", "h" or "d" of so many seconds.
std::string unit_word(uint32_t seconds);
std::optional<uint32_t> unit_seconds(std::string_view word);

// "SA": F S R P A U E W, from the lowest bit on.
std::string tcp_flags_word(uint8_t flags);
std::optional<uint8_t> tcp_flags_number(std::string_view word);

}  // namespace netkit_bpf::firewall
