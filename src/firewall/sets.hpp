// SPDX-License-Identifier: MIT
// What a rule asks of each property of a packet, as intervals of numbers.
#pragma once

#include <span>
#include <vector>

#include "firewall/rule.hpp"

namespace netkit_bpf::firewall {

// Addresses, or other numbers in the lower 64 bits. Both ends are in it.
struct Interval {
  Address first;
  Address last;
  bool operator==(const Interval&) const = default;
};
using Intervals = std::vector<Interval>;

// In order, none touching another.
Intervals joined(Intervals intervals);
Intervals intervals_of(std::span<const Range> ranges);
// Of the networks of one family.
Intervals intervals_of(std::span<const Network> networks, Family family);
// The networks themselves, or those of the set; nothing where there is no address.
std::span<const Network> networks_of(const Endpoint& endpoint, const Sets& sets);
bool contains(const Intervals& outer, const Intervals& inner);

// What stands where ports do: ports, or ICMP's type and code.
std::vector<Range> src_numbers(const Rule& rule);
std::vector<Range> dst_numbers(const Rule& rule);
// The protocols that it is about; empty for all. Ports without a protocol are those of all protocols that have ports.
std::vector<uint8_t> protocols_of(const Rule& rule);

}  // namespace netkit_bpf::firewall
