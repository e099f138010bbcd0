// SPDX-License-Identifier: MIT
#include "firewall/sets.hpp"

#include <netinet/in.h>

#include <algorithm>
#include <stdexcept>

namespace netkit_bpf::firewall {

namespace {

// The address behind this one; of the last of all, the first.
Address next(Address address) {
  ++address.low;
  if (address.low == 0) ++address.high;
  return address;
}

}  // namespace

Intervals joined(Intervals intervals) {
  if (intervals.size() < 2) return intervals;
  std::ranges::sort(intervals, {}, &Interval::first);
  Intervals all;
  for (const Interval& each : intervals) {
    const bool touches = !all.empty() && (each.first <= all.back().last || each.first == next(all.back().last));
    if (touches)
      all.back().last = std::max(all.back().last, each.last);
    else
      all.push_back(each);
  }
  return all;
}

Intervals intervals_of(std::span<const Range> ranges) {
  Intervals intervals;
  for (const Range& range : ranges) intervals.push_back({{0, range.first}, {0, range.last}});
  return joined(std::move(intervals));
}

Intervals intervals_of(std::span<const Network> networks, Family family) {
  Intervals intervals;
  for (const Network& network : networks)
    if (network.family == family) intervals.push_back({network.first, network.last()});
  return joined(std::move(intervals));
}

std::span<const Network> networks_of(const Endpoint& endpoint, const Sets& sets) {
  if (endpoint.set.empty()) return endpoint.networks;
  const auto found = sets.find(endpoint.set);
  if (found == sets.end()) throw std::invalid_argument("there is no table <" + endpoint.set + ">");
  return found->second;
}

bool contains(const Intervals& outer, const Intervals& inner) {
  return std::ranges::all_of(inner, [&](const Interval& each) {
    const auto behind = std::ranges::upper_bound(outer, each.first, {}, &Interval::first);
    return behind != outer.begin() && each.last <= std::prev(behind)->last;
  });
}

std::vector<Range> src_numbers(const Rule& rule) { return rule.icmp_types.empty() ? rule.from.ports : rule.icmp_types; }

std::vector<Range> dst_numbers(const Rule& rule) {
  if (!rule.icmp_code) return rule.to.ports;
  return {{.first = *rule.icmp_code, .last = *rule.icmp_code}};
}

std::vector<uint8_t> protocols_of(const Rule& rule) {
  const bool wants_ports = !rule.from.ports.empty() || !rule.to.ports.empty();
  if (!rule.protocols.empty() || !wants_ports) return rule.protocols;
  return {IPPROTO_TCP, IPPROTO_UDP, IPPROTO_DCCP, IPPROTO_SCTP, IPPROTO_UDPLITE};
}

}  // namespace netkit_bpf::firewall
