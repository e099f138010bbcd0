// SPDX-License-Identifier: MIT
// From a ruleset to the tables that bpf/firewall.bpf.c looks packets up in.
#pragma once

#include "firewall/rule.hpp"
#include "firewall/tables.hpp"

namespace netkit_bpf::firewall {

// Throws std::invalid_argument where a set is missing or the tables would be too large.
Tables compile(const Ruleset& ruleset);

}  // namespace netkit_bpf::firewall
