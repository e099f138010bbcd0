// SPDX-License-Identifier: MIT
// Rules as text, one a line:
//
//   ACTION [SIDE] [log] [FAMILY] [PROTOCOL] [from ADDRESS [port PORT]] [to ADDRESS [port PORT]] [flags SET/MASK]
//          [icmp-type TYPE [code CODE]] [length LENGTH] [fragment [first|later]] [rate RATE [burst PACKETS]]
//          [label "TEXT"]
//
// and before them NAME = VALUE for variables, used as $NAME, and table <NAME> { ADDRESS, ... } for sets of addresses.
#pragma once

#include <string_view>

#include "firewall/packet.hpp"
#include "firewall/rule.hpp"
#include "firewall/tokens.hpp"

namespace netkit_bpf::firewall {

// Throws SyntaxError.
Ruleset parse_ruleset(std::string_view text);
Rule parse_rule(std::string_view text);
// A packet of one side, in the words of a rule without its action: tcp from ADDRESS port PORT to ADDRESS port PORT.
// Flags are those that are set, without a mask.
Packet parse_packet(std::string_view text, Side side);

// What one field of a rule says: "src" "10.0.0.0/8". Throws std::invalid_argument.
void set_field(Rule& rule, std::string_view field, std::string_view text);
// What the networks of a set say, one after the other.
std::vector<Network> parse_networks(std::string_view text);

}  // namespace netkit_bpf::firewall
