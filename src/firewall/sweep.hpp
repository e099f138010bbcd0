// SPDX-License-Identifier: MIT
// Which rules are left, from number to number.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "firewall/rows.hpp"
#include "firewall/sets.hpp"

namespace netkit_bpf::firewall {

// Rules that ask the same of a property, by their bits.
struct Group {
  std::vector<uint32_t> rules;
  Intervals intervals;
};

// From where on which rules are left.
struct Boundary {
  Address first;
  uint32_t row = 0;
};

// Cuts all numbers into intervals, in each of which the same groups are. `base` is the row of the rules that ask
// nothing. The first boundary is 0.
std::vector<Boundary> sweep(Rows& rows, uint32_t base, std::span<const Group> groups);

}  // namespace netkit_bpf::firewall
