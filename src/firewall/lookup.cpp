// SPDX-License-Identifier: MIT
#include "firewall/lookup.hpp"

#include <algorithm>
#include <bit>

#include "base/bytes.hpp"

namespace netkit_bpf::firewall {

template <typename Item>
Item Lookup::at(uint64_t offset) const {
  return copy_at<Item>(tables_.bytes, offset);
}

uint32_t Lookup::address_row(const nk_fw_addresses& addresses, const Address& address, bool is_ipv6) const {
  if (addresses.root == 0) return addresses.rows;
  const uint64_t index = is_ipv6 ? address.high >> 48 : address.low >> 16 & 0xffff;
  const auto entry = at<uint32_t>(addresses.root + index * 4);
  uint64_t position = entry & ((1U << NK_FW_POSITION) - 1);
  for (uint64_t half = (uint64_t{1} << (entry >> NK_FW_POSITION)) / 2; half != 0; half /= 2) {
    const uint64_t middle = position + half;
    Address bound;
    if (is_ipv6) {
      const auto found = at<nk_fw_bound>(addresses.bounds + middle * sizeof(nk_fw_bound));
      bound = {.high = found.high, .low = found.low};
    } else {
      bound.low = (address.low & ~uint64_t{0xffff}) | at<uint16_t>(addresses.bounds + middle * 2);
    }
    if (bound <= address) position = middle;
  }
  return at<uint32_t>(addresses.rows + position * 4);
}

template <typename Take>
void Lookup::visit(const Packet& packet, const Take& take) const {
  const nk_fw_layout& layout = tables_.layout;
  std::vector<uint32_t> rows;
  if (packet.family == Family::ipv4 || packet.family == Family::ipv6) {
    const bool is_ipv6 = packet.family == Family::ipv6;
    rows.push_back(address_row(layout.addresses[0][is_ipv6], packet.src, is_ipv6));
    rows.push_back(address_row(layout.addresses[1][is_ipv6], packet.dst, is_ipv6));
  } else {
    rows.assign(std::begin(layout.no_address), std::end(layout.no_address));
  }

  const uint32_t kind =
      ((static_cast<uint32_t>(packet.side) * NK_FAMILIES + static_cast<uint32_t>(packet.family)) * NK_FRAGMENTS +
       packet.fragment) *
          NK_FW_PROTOCOLS +
      packet.protocol;
  uint32_t service = at<uint16_t>(layout.kinds + uint64_t{kind} * 2);
  const auto number = [&](const nk_fw_numbers& numbers, uint32_t value) {
    if (numbers.classes == 0) return;
    const uint32_t of = value < NK_FW_ABSENT ? at<uint16_t>(numbers.table + uint64_t{value} * 2) : numbers.absent;
    if (numbers.merged != 0)
      service = at<uint16_t>(numbers.merged + (uint64_t{service} * numbers.classes + of) * 2);
    else
      rows.push_back(at<uint32_t>(numbers.rows + uint64_t{of} * 4));
  };
  number(layout.tcp_flags, packet.tcp_flags);
  number(layout.length, packet.length);
  number(layout.dst_port, packet.dst_port);
  number(layout.src_port, packet.src_port);
  rows.push_back(at<uint32_t>(layout.services + uint64_t{service} * 4));

  const auto common = [&](const auto& offset_of) {
    uint64_t all = ~uint64_t{0};
    for (const uint32_t row : rows) all &= at<uint64_t>(offset_of(row));
    return all;
  };
  const auto visit_group = [&](uint64_t group) {
    const auto group_of = [&](uint64_t row) {
      return layout.summary == 0 ? row : at<uint32_t>(row + uint64_t{layout.summary} * 8 + group * 4);
    };
    for (uint64_t word = 0; word < layout.group; ++word) {
      const uint64_t first = (group * layout.group + word) * 64;
      uint64_t left = common([&](uint64_t row) { return group_of(row) + word * 8; });
      for (; left != 0; left &= left - 1)
        if (!take(at<uint32_t>(layout.order + (first + static_cast<uint64_t>(std::countr_zero(left))) * 4)))
          return false;
    }
    return true;
  };
  if (layout.summary == 0) visit_group(0);
  for (uint32_t block = 0; block < layout.summary; ++block)
    for (uint64_t groups = common([&](uint64_t row) { return row + uint64_t{block} * 8; }); groups != 0;
         groups &= groups - 1)
      if (!visit_group(uint64_t{block} * 64 + static_cast<uint64_t>(std::countr_zero(groups)))) return;
}

std::vector<uint32_t> Lookup::matching(const Packet& packet, size_t most) const {
  std::vector<uint32_t> found;
  visit(packet, [&](uint32_t number) {
    found.push_back(number);
    return true;
  });
  const size_t kept = std::min(found.size(), most);
  std::ranges::partial_sort(found, found.begin() + static_cast<ptrdiff_t>(kept));
  found.resize(kept);
  return found;
}

Lookup::Earlier Lookup::matching_below(const Packet& packet, size_t below, size_t most) const {
  Earlier earlier;
  visit(packet, [&](uint32_t number) {
    if (number < below) earlier.numbers.push_back(number);
    return ++earlier.looked < most;
  });
  std::ranges::sort(earlier.numbers);
  return earlier;
}

}  // namespace netkit_bpf::firewall
