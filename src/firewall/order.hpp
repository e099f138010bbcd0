// SPDX-License-Identifier: MIT
// Where rules stand in a row of bits: those that one packet may match beside each other.
#pragma once

#include <cstdint>
#include <vector>

#include "firewall/rule.hpp"

namespace netkit_bpf::firewall {

// The number of a rule by its position. Of `per_group` positions each the rules are in order, so that the first one
// that matches within a group is the one with the lowest number.
//
// A packet's source and destination leave few rules, but in the order of a ruleset those lie anywhere: as many words
// would be looked at as there are rules. So they are sorted by the address that says most of the two.
std::vector<uint32_t> positions_of(const Ruleset& ruleset, size_t per_group);

}  // namespace netkit_bpf::firewall
