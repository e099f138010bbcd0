// SPDX-License-Identifier: MIT
#include "flows/flow_table.hpp"

#include <algorithm>
#include <cstring>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <utility>

#include "flows/key_index.hpp"

namespace netkit_bpf {

namespace {

constexpr unsigned bits_of_byte = 8;

void keep_bits(std::array<uint8_t, 16>& address, unsigned bits) {
  for (size_t i = 0; i < address.size(); ++i) {
    const auto first = static_cast<unsigned>(i) * bits_of_byte;
    const unsigned kept = bits <= first ? 0 : std::min(bits - first, bits_of_byte);
    address.at(i) &= static_cast<uint8_t>(0xff00U >> kept);
  }
}

bool holds(const FlowNetwork& network, std::array<uint8_t, 16> address, uint8_t family) {
  if (network.family != family) return false;
  keep_bits(address, network.bits);
  return address == network.address;
}

// Puts the number of its network in an address's place; false if it is in none.
bool number_network(std::array<uint8_t, 16>& address, uint8_t family, std::span<const FlowNetwork> networks) {
  const auto found = std::ranges::find_if(networks, [&](const auto& each) { return holds(each, address, family); });
  address = {};
  if (found == networks.end()) return false;
  const auto number = static_cast<uint32_t>(found - networks.begin());
  std::memcpy(address.data(), &number, sizeof(number));
  return true;
}

// The identity of the group that a row belongs to.
FlowIdentity group_of(const FlowIdentity& identity, const FlowGrouping& grouping) {
  const auto known = static_cast<uint16_t>(identity.known & grouping.known);
  const auto has = [&](FlowKnown bit) { return (known & bit) != 0; };
  FlowIdentity group;
  group.known = known;
  if (has(known_pair)) group.pair = identity.pair;
  if (has(known_side)) group.side = identity.side;
  if (has(known_ethertype)) group.ethertype = identity.ethertype;
  if (has(known_protocol)) group.protocol = identity.protocol;
  if (has(known_src_port)) group.src_port = identity.src_port;
  if (has(known_dst_port)) group.dst_port = identity.dst_port;
  if (has(known_icmp)) group.icmp_type = identity.icmp_type;  // whatever its code
  if (!grouping.networks.empty()) {
    if (has(known_family)) group.family = identity.family;
    for (const auto& [bit, from, to] :
         {std::tuple(known_src, &identity.src, &group.src), std::tuple(known_dst, &identity.dst, &group.dst)}) {
      if (!has(bit)) continue;
      *to = *from;
      if (!number_network(*to, identity.family, grouping.networks)) group.known &= static_cast<uint16_t>(~bit);
    }
    return group;
  }
  // An address is nothing without its family.
  if (has(known_family) || has(known_src) || has(known_dst)) {
    group.family = identity.family;
    group.known |= known_family;
  }
  const size_t is_ipv6 = identity.family == 6 ? 1 : 0;
  if (has(known_src)) {
    group.src = identity.src;
    keep_bits(group.src, grouping.src_bits.at(is_ipv6));
  }
  if (has(known_dst)) {
    group.dst = identity.dst;
    keep_bits(group.dst, grouping.dst_bits.at(is_ipv6));
  }
  return group;
}

// By each pair's number, that of the first pair of its name: pairs of several namespaces may have one.
std::vector<uint16_t> first_of_name(const std::vector<std::string>& names) {
  std::unordered_map<std::string_view, uint16_t> first;
  std::vector<uint16_t> found;
  found.reserve(names.size());
  for (const std::string& name : names)
    found.push_back(first.emplace(name, static_cast<uint16_t>(found.size())).first->second);
  return found;
}

void add(FlowRow& to, const FlowRow& row) {
  to.flows += row.flows;
  to.packets += row.packets;
  to.skbs += row.skbs;
  to.bytes += row.bytes;
  if ((row.known & known_times) != 0) {
    const bool is_first = (to.known & known_times) == 0;
    to.first_ns = is_first ? row.first_ns : std::min(to.first_ns, row.first_ns);
    to.last_ns = is_first ? row.last_ns : std::max(to.last_ns, row.last_ns);
    to.known |= known_times;
  }
  if ((row.known & known_tcp_flags) != 0) {
    to.tcp_flags |= row.tcp_flags;
    to.known |= known_tcp_flags;
  }
}

uint64_t number_in(const FlowRow& row, const FlowField& field) {
  uint64_t value = 0;
  if (field.known != 0 && (row.known & field.known) == 0) return 0;
  std::memcpy(&value, reinterpret_cast<const std::byte*>(&row) + field.offset, field.size);
  return value;
}

}  // namespace

FlowRow FlowTable::total() const {
  FlowRow sum;
  for (const FlowRow& row : *rows_) add(sum, row);
  return sum;
}

FlowTable FlowTable::by(const FlowGrouping& grouping) const {
  std::vector<FlowRow> groups;
  KeyIndex<FlowIdentity> index;
  const auto identity_at = [&](uint32_t number) -> const FlowIdentity& { return groups[number].identity; };
  const std::vector<uint16_t> pairs = first_of_name(*names_);
  for (const FlowRow& row : *rows_) {
    FlowIdentity group = group_of(row.identity, grouping);
    if ((group.known & known_pair) != 0) group.pair = pairs.at(group.pair);
    const uint32_t number = index.find_or_add(group, groups.size(), identity_at);
    if (number == groups.size()) groups.push_back({.identity = group, .known = group.known});
    add(groups[number], row);
  }
  return {std::move(groups), names_};
}

// What a flow had counted and has no longer was moved to what is not attributed, for which it is nothing new.
FlowTable FlowTable::matching(const FlowTable& other) const {
  KeyIndex<FlowIdentity> wanted;
  const auto identity_at = [&](uint32_t number) -> const FlowIdentity& { return other[number].identity; };
  for (size_t i = 0; i < other.size(); ++i) wanted.find_or_add(other[i].identity, i, identity_at);
  std::vector<const FlowRow*> found(other.size());
  for (const FlowRow& row : *rows_) {
    const uint32_t number = wanted.find(row.identity, identity_at);
    if (number != KeyIndex<FlowIdentity>::none) found[number] = &row;
  }
  std::vector<FlowRow> rows;
  for (const FlowRow* row : found)
    if (row != nullptr) rows.push_back(*row);
  return {std::move(rows), names_};
}

FlowTable FlowTable::since(const FlowTable& earlier) const {
  KeyIndex<FlowIdentity> index;
  const auto identity_at = [&](uint32_t number) -> const FlowIdentity& { return earlier[number].identity; };
  for (size_t i = 0; i < earlier.size(); ++i) index.find_or_add(earlier[i].identity, i, identity_at);
  std::vector<bool> is_found(earlier.size());
  std::vector<FlowRow> moved;
  std::vector<FlowRow> rest;  // rows that are not attributed
  const auto rest_of = [&](const FlowRow& row) -> FlowRow& {
    FlowRow wanted;
    wanted.known = known_pair | known_side;
    wanted.identity.known = wanted.known;
    wanted.identity.pair = row.identity.pair;
    wanted.identity.side = row.identity.side;
    const auto found = std::ranges::find(rest, wanted.identity, &FlowRow::identity);
    return found != rest.end() ? *found : rest.emplace_back(wanted);
  };
  for (const FlowRow& row : *rows_) {
    const uint32_t number = index.find(row.identity, identity_at);
    FlowRow difference = row;
    if (number != KeyIndex<FlowIdentity>::none) {
      is_found[number] = true;
      difference.packets -= earlier[number].packets;
      difference.skbs -= earlier[number].skbs;
      difference.bytes -= earlier[number].bytes;
    }
    if (row.identity.known == (known_pair | known_side)) {
      if (number != KeyIndex<FlowIdentity>::none) difference.flows -= earlier[number].flows;
      add(rest_of(row), difference);
    } else if (number != KeyIndex<FlowIdentity>::none && row.skbs < earlier[number].skbs) {
      add(rest_of(row), difference);  // less than nothing, and more in the row that it was moved to
    } else if (difference.skbs != 0) {
      moved.push_back(difference);
    }
  }
  for (size_t i = 0; i < earlier.size(); ++i) {
    if (is_found[i]) continue;
    FlowRow& to = rest_of(earlier[i]);
    to.packets -= earlier[i].packets;
    to.skbs -= earlier[i].skbs;
    to.bytes -= earlier[i].bytes;
  }
  for (FlowRow& row : rest) {
    row.known = row.identity.known;
    row.first_ns = row.last_ns = 0;
    row.tcp_flags = 0;
    if (row.skbs != 0) moved.push_back(row);
  }
  return {std::move(moved), names_};
}

FlowTable FlowTable::top(size_t count, const FlowField& field) const {
  std::vector<std::pair<uint64_t, size_t>> order;
  order.reserve(size());
  for (size_t i = 0; i < size(); ++i) order.emplace_back(number_in((*this)[i], field), i);
  count = std::min(count, size());
  const auto before = [](const auto& one, const auto& other) {
    return one.first != other.first ? one.first > other.first : one.second < other.second;
  };
  std::partial_sort(order.begin(), order.begin() + static_cast<ptrdiff_t>(count), order.end(), before);
  std::vector<FlowRow> rows;
  rows.reserve(count);
  for (size_t i = 0; i < count; ++i) rows.push_back((*this)[order[i].second]);
  return {std::move(rows), names_};
}

FlowTable FlowTable::slice(size_t first, ptrdiff_t step, size_t size) const {
  std::vector<FlowRow> rows;
  rows.reserve(size);
  auto at = static_cast<ptrdiff_t>(first);
  for (size_t i = 0; i < size; ++i, at += step) rows.push_back(rows_->at(static_cast<size_t>(at)));
  return {std::move(rows), names_};
}

}  // namespace netkit_bpf
