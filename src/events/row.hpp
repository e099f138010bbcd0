// SPDX-License-Identifier: MIT
// A packet event as a row of a table, which numpy reads in place.
#pragma once

#include <netkit_bpf/event.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "ring/ring.hpp"

namespace netkit_bpf {

// An event with separate fields; a field that does not apply is zero, and the flags (enum nk_flags) say which apply. A
// row is as large as a record with the ring's header, so that a block becomes rows in place.
struct Row {
  uint8_t family;  // 4, 6 or 0
  uint8_t traffic_class;
  uint8_t icmp_type;
  uint8_t icmp_code;
  uint16_t vlan_id;
  uint8_t fragment_more;  // 0 or 1
  uint8_t unused;
  int64_t timestamp_ns;  // Unix time
  uint8_t src[16];       // network byte order; IPv4 takes the first four bytes
  uint8_t dst[16];
  uint32_t length;
  uint32_t payload_len;
  uint32_t flow_label;
  uint32_t tcp_seq;
  uint32_t tcp_ack;
  uint16_t src_port;
  uint16_t dst_port;
  uint16_t gso_segs;  // 1 at least
  uint16_t ethertype;
  uint16_t fragment_offset;
  uint16_t vlan_tci;
  uint16_t tcp_window;
  uint16_t icmp_id;
  uint16_t icmp_seq;
  uint16_t pair;
  uint16_t flags;
  uint8_t next_header;
  uint8_t protocol;
  uint8_t hop_limit;
  uint8_t tcp_flags;
  uint8_t side;
  uint8_t unused_too;
};

// Behind the ring's header a record has the layout of a row: only packed fields move.
static_assert(sizeof(Row) == Record::header_size + sizeof(nk_event));
static_assert(offsetof(Row, timestamp_ns) == Record::header_size + offsetof(nk_event, timestamp));
static_assert(offsetof(Row, flow_label) == Record::header_size + offsetof(nk_event, ip_word));
static_assert(offsetof(Row, fragment_offset) == Record::header_size + offsetof(nk_event, fragment));
static_assert(offsetof(Row, pair) == Record::header_size + offsetof(nk_event, pair));
static_assert(offsetof(Row, unused_too) == Record::header_size + offsetof(nk_event, unused));

// Converts a record with its header to a row, in place.
inline void unpack(Row& row, int64_t clock_offset_ns) {
  const uint32_t ip_word = row.flow_label;
  const bool is_icmp = (row.flags & NK_ICMP) != 0;
  row.family = static_cast<uint8_t>(ip_word >> 28);
  row.traffic_class = static_cast<uint8_t>(ip_word >> 20);
  row.icmp_type = static_cast<uint8_t>(is_icmp ? row.src_port : 0);
  row.icmp_code = static_cast<uint8_t>(is_icmp ? row.dst_port : 0);
  row.vlan_id = row.vlan_tci & 0xfff;
  row.fragment_more = row.fragment_offset & 1;
  row.unused = 0;
  row.timestamp_ns += clock_offset_ns;
  row.flow_label = row.family == 6 ? ip_word & 0xfffff : 0;
  row.src_port = is_icmp ? 0 : row.src_port;
  row.dst_port = is_icmp ? 0 : row.dst_port;
  row.gso_segs = std::max(row.gso_segs, uint16_t{1});
  row.fragment_offset &= static_cast<uint16_t>(~1U);
}

// The record that a row was made of; the timestamp stays Unix time.
inline nk_event to_event(const Row& row) {
  const bool is_icmp = (row.flags & NK_ICMP) != 0;
  nk_event event{};
  std::memcpy(&event, &row.timestamp_ns, sizeof(event));
  event.ip_word = uint32_t{row.family} << 28 | uint32_t{row.traffic_class} << 20 | row.flow_label;
  if (is_icmp) {
    event.src_port = row.icmp_type;
    event.dst_port = row.icmp_code;
  }
  event.fragment |= row.fragment_more;
  return event;
}

}  // namespace netkit_bpf
