// SPDX-License-Identifier: MIT
// From a ruleset to the tables that bpf/firewall.bpf.c looks packets up in.
#pragma once

#include <netkit_bpf/firewall.h>

#include <cstdint>
#include <vector>

#include "firewall/rule.hpp"

namespace netkit_bpf::firewall {

struct Tables {
  nk_fw_layout layout{};
  std::vector<uint8_t> bytes;
};

// Throws std::invalid_argument where a set is missing or the tables would be too large.
Tables compile(const Ruleset& ruleset);

}  // namespace netkit_bpf::firewall
