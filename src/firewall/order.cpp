// SPDX-License-Identifier: MIT
#include "firewall/order.hpp"

#include <algorithm>
#include <array>
#include <iterator>
#include <numeric>
#include <utility>

namespace netkit_bpf::firewall {

namespace {

// The first network of an endpoint stands for all of them, and a set for itself.
struct Place {
  uint64_t kind = 0;  // the family; a set is none of them
  Address first;
  uint64_t length = 0;
};

// In the order in which rules are sorted, and last their number, by which no two are equal.
using Key = std::array<uint64_t, 9>;

Place place_of(const Endpoint& endpoint, const Sets& sets) {
  constexpr uint64_t a_set = 255;
  if (!endpoint.set.empty()) {
    const auto number = std::distance(sets.begin(), sets.find(endpoint.set));
    return {.kind = a_set, .first = {.high = 0, .low = static_cast<uint64_t>(number)}, .length = 1};
  }
  if (endpoint.networks.empty()) return {};
  const Network& network = endpoint.networks.front();
  // IPv4's lengths in IPv6's measure, by which hosts and networks of both are alike
  return {.kind = static_cast<uint64_t>(network.family),
          .first = network.first,
          .length = network.family == Family::ipv4 ? network.length * 4U : network.length};
}

// Rules that leave one end open are apart: among others they would have each group looked at, for the other end.
Key key_of(const Rule& rule, const Sets& sets, uint32_t number) {
  Place primary = place_of(rule.to, sets);
  Place secondary = place_of(rule.from, sets);
  const bool by_source = secondary.length > primary.length;
  if (by_source) std::swap(primary, secondary);
  const bool is_open = secondary.length == 0;
  const uint64_t dst_port = rule.to.ports.empty() ? 0 : rule.to.ports.front().first;
  const uint64_t src_port = rule.from.ports.empty() ? 0 : rule.from.ports.front().first;
  return {uint64_t{by_source} << 9 | uint64_t{is_open} << 8 | primary.kind,
          primary.first.high,
          primary.first.low,
          primary.length << 8 | secondary.kind,
          secondary.first.high,
          secondary.first.low,
          secondary.length,
          dst_port << 16 | src_port,
          number};
}

}  // namespace

std::vector<uint32_t> positions_of(const Ruleset& ruleset, size_t per_group) {
  const size_t count = ruleset.rules.size();
  std::vector<uint32_t> order(count);
  std::iota(order.begin(), order.end(), 0U);
  if (count <= per_group) return order;
  std::vector<Key> keys;
  keys.reserve(count);
  for (uint32_t number = 0; number < count; ++number)
    keys.push_back(key_of(ruleset.rules[number], ruleset.sets, number));
  std::ranges::sort(keys);
  for (size_t at = 0; at < count; ++at) order[at] = static_cast<uint32_t>(keys[at].back());
  for (size_t first = 0; first < count; first += per_group) {
    const auto begin = order.begin() + static_cast<ptrdiff_t>(first);
    std::sort(begin, begin + static_cast<ptrdiff_t>(std::min(per_group, count - first)));
  }
  return order;
}

}  // namespace netkit_bpf::firewall
