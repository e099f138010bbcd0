// SPDX-License-Identifier: MIT
// Rules that never decide. Whoever hides a rule matches each packet that it matches: so one such packet is looked up,
// and only the few rules that match it are compared with the rule.
#include <netinet/in.h>

#include <algorithm>
#include <bit>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "firewall/lookup.hpp"
#include "firewall/sets.hpp"

namespace netkit_bpf::firewall {

namespace {

// Ten thousand rules of which each overlaps all would be compared fifty million times, and a hundred thousand that are
// equal looked at ten thousand million times: from some rule on each is compared with a few alone, which is said.
constexpr size_t most_comparisons = 4'000'000;
constexpr size_t most_looked = 100'000'000;
constexpr size_t least_looked = 256;

// What of a rule is compared, worked out once.
struct Extent {
  unsigned families = 0;
  std::vector<uint8_t> protocols;  // in order
  Intervals addresses[2][2];       // NOLINT(*-avoid-c-arrays) - source and destination, IPv4 and IPv6
  Intervals src_numbers;
  Intervals dst_numbers;
  Intervals lengths;
};

constexpr Address last_of(bool is_ipv6) {
  return is_ipv6 ? Address{.high = ~uint64_t{0}, .low = ~uint64_t{0}} : Address{.high = 0, .low = 0xffffffff};
}

Extent extent_of(const Rule& rule, const Sets& sets) {
  Extent extent;
  extent.families = families_of(rule);
  extent.protocols = protocols_of(rule);
  std::ranges::sort(extent.protocols);
  for (const bool is_ipv6 : {false, true}) {
    const Family family = is_ipv6 ? Family::ipv6 : Family::ipv4;
    size_t which = 0;
    for (const Endpoint* endpoint : {&rule.from, &rule.to}) {
      extent.addresses[which++][is_ipv6] = endpoint->has_address() ? intervals_of(networks_of(*endpoint, sets), family)
                                                                   : Intervals{{.first = {}, .last = last_of(is_ipv6)}};
    }
    const bool is_nowhere = extent.addresses[0][is_ipv6].empty() || extent.addresses[1][is_ipv6].empty();
    if (is_nowhere) extent.families &= ~static_cast<unsigned>(bit(family));
  }
  extent.src_numbers = intervals_of(src_numbers(rule));
  extent.dst_numbers = intervals_of(dst_numbers(rule));
  extent.lengths = intervals_of(rule.lengths);
  return extent;
}

bool covers(const Intervals& outer, const Intervals& inner) {  // empty is all
  return outer.empty() || (!inner.empty() && contains(outer, inner));
}

bool covers(const Rule& outer, const Extent& outer_extent, const Rule& inner, const Extent& inner_extent) {
  if (outer.side && outer.side != inner.side) return false;
  if ((inner_extent.families & ~outer_extent.families) != 0) return false;
  if (!outer_extent.protocols.empty() &&
      (inner_extent.protocols.empty() || !std::ranges::includes(outer_extent.protocols, inner_extent.protocols)))
    return false;
  for (const bool is_ipv6 : {false, true}) {
    if ((inner_extent.families & bit(is_ipv6 ? Family::ipv6 : Family::ipv4)) == 0) continue;
    for (size_t which = 0; which < 2; ++which)
      if (!contains(outer_extent.addresses[which][is_ipv6], inner_extent.addresses[which][is_ipv6])) return false;
  }
  if (!covers(outer_extent.src_numbers, inner_extent.src_numbers) ||
      !covers(outer_extent.dst_numbers, inner_extent.dst_numbers) ||
      !covers(outer_extent.lengths, inner_extent.lengths))
    return false;
  if (outer.fragment && outer.fragment != Fragment::any && outer.fragment != inner.fragment) return false;
  if (outer.fragment && !inner.fragment) return false;
  if (!outer.tcp_flags) return true;
  return inner.tcp_flags && (outer.tcp_flags->mask & ~inner.tcp_flags->mask) == 0 &&
         (inner.tcp_flags->set & outer.tcp_flags->mask) == outer.tcp_flags->set;
}

// One of the packets that a rule matches, even if none like it is ever sent.
Packet sample(const Rule& rule, const Extent& extent) {
  Packet packet;
  packet.side = rule.side.value_or(Side::primary);
  packet.family = static_cast<Family>(std::countr_zero(extent.families));
  const bool is_ipv6 = packet.family == Family::ipv6;
  if (packet.family == Family::ipv4 || is_ipv6) {
    packet.src = extent.addresses[0][is_ipv6].front().first;
    packet.dst = extent.addresses[1][is_ipv6].front().first;
  }
  if (rule.fragment) packet.fragment = rule.fragment == Fragment::later ? NK_LATER : NK_FIRST;
  if (!extent.protocols.empty()) packet.protocol = extent.protocols.front();
  if (!extent.src_numbers.empty()) packet.src_port = static_cast<uint32_t>(extent.src_numbers.front().first.low);
  if (!extent.dst_numbers.empty()) packet.dst_port = static_cast<uint32_t>(extent.dst_numbers.front().first.low);
  if (rule.tcp_flags) packet.tcp_flags = rule.tcp_flags->set;
  if (!extent.lengths.empty()) packet.length = static_cast<uint32_t>(extent.lengths.front().first.low);
  return packet;
}

std::string place_of(const Ruleset& ruleset, size_t number) {
  const uint32_t line = ruleset.rules[number].line;
  std::string place = line != 0 ? "line " + std::to_string(line) : "rule " + std::to_string(number + 1);
  place += " (";
  place += to_text(ruleset.rules[number]);
  place += ')';
  return place;
}

}  // namespace

std::vector<std::string> warnings(const Ruleset& ruleset, const Tables& tables) {
  std::vector<std::string> all;
  std::map<size_t, Extent> outer_extents;
  const Lookup lookup(tables);
  size_t comparisons = 0;
  size_t looked = 0;
  std::optional<size_t> first_cut;
  for (size_t number = 0; number < ruleset.rules.size(); ++number) {
    const Rule& rule = ruleset.rules[number];
    const Extent extent = extent_of(rule, ruleset.sets);
    if (extent.families == 0) continue;  // of a table that is empty now
    const bool is_cut = comparisons >= most_comparisons || looked >= most_looked;
    const Lookup::Earlier overlapping =
        lookup.matching_below(sample(rule, extent), number, is_cut ? least_looked : ruleset.rules.size());
    if (is_cut && !first_cut && overlapping.looked == least_looked) first_cut = number;
    looked += overlapping.looked;
    for (const uint32_t earlier : overlapping.numbers) {
      ++comparisons;
      const Rule& other = ruleset.rules[earlier];
      auto found = outer_extents.find(earlier);
      if (found == outer_extents.end()) found = outer_extents.emplace(earlier, extent_of(other, ruleset.sets)).first;
      if (!covers(other, found->second, rule, extent)) continue;
      std::string text = place_of(ruleset, number);
      text += rule == other ? " repeats " : " never decides: ";
      text += place_of(ruleset, earlier);
      if (!(rule == other)) text += " matches all that it matches";
      if (rule.action != other.action) text += ", and does the contrary";
      all.push_back(std::move(text));
      break;
    }
  }
  if (first_cut) {
    all.push_back("from " + place_of(ruleset, *first_cut) +
                  " on a rule was compared with some of those that overlap it, not with all: too many do");
  }
  return all;
}

}  // namespace netkit_bpf::firewall
