// SPDX-License-Identifier: MIT
// The fields of a packet event; this is the only list of them. The attributes of a PacketEvent, the columns of numpy
// and of Arrow, their types and their order come from here.
#pragma once

#include <netkit_bpf/event.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "events/row.hpp"

namespace netkit_bpf {

// When a field applies: if the bit with this number is set in the flags, or always. IPv6 uses the bit of NK_TAG_BESIDE,
// which has no field.
enum class Validity : uint8_t { ip, protocol, ports, tcp, icmp, fragment, vlan, ipv6, echo, always };

constexpr uint16_t flag_of(Validity validity) {
  if (validity == Validity::always) return 0;
  return static_cast<uint16_t>(validity == Validity::ipv6 ? unsigned{NK_IP} : 1U << static_cast<unsigned>(validity));
}
static_assert(flag_of(Validity::ip) == NK_IP && flag_of(Validity::protocol) == NK_PROTOCOL &&
              flag_of(Validity::ports) == NK_PORTS && flag_of(Validity::tcp) == NK_TCP &&
              flag_of(Validity::icmp) == NK_ICMP && flag_of(Validity::fragment) == NK_FRAGMENT &&
              flag_of(Validity::vlan) == NK_VLAN && flag_of(Validity::echo) == NK_ECHO &&
              1U << static_cast<unsigned>(Validity::ipv6) == NK_TAG_BESIDE);

struct Field {
  enum class Type : uint8_t {
    time,     // nanoseconds of Unix time
    pair,     // in a table the number of a name
    side,     // in a table enum nk_side
    address,  // of 16 bytes
    number,
    protocol,   // a number with names
    tcp_flags,  // bits with names
    truth,
    fragment,  // offset and more together
    data,      // the packet's first bytes, which lie in no row
  };
  enum In : uint8_t { event = 1, array = 2, arrow = 4, table = array | arrow, everywhere = event | table };

  const char* name;
  Type type;
  Validity validity;
  In in;
  size_t offset;  // in a Row
  size_t size;
  uint32_t (*decode)(const nk_event&);  // null: a record stores it like a row
  const char* doc;
};

namespace fields {

// NOLINTBEGIN(cppcoreguidelines-macro-usage,bugprone-macro-parentheses): offsetof() is a macro too
#define NK_AT(member) offsetof(Row, member), sizeof(Row::member)

constexpr std::array all{
    Field{"timestamp_ns", Field::Type::time, Validity::always, Field::everywhere, NK_AT(timestamp_ns), nullptr,
          "When the packet reached the hook: nanoseconds of Unix time."},
    Field{"pair_name", Field::Type::pair, Validity::always, Field::everywhere, NK_AT(pair), nullptr,
          "The name of the pair's primary when the monitor was attached."},
    Field{"side", Field::Type::side, Validity::always, Field::everywhere, NK_AT(side), nullptr,
          "The Side whose hook saw the packet: the end that sent it."},
    Field{"family", Field::Type::number, Validity::ip, Field::everywhere, NK_AT(family),
          [](const nk_event& event) -> uint32_t { return event.ip_word >> 28; },
          "4 or 6; None if the packet is not IP or its IP header is not valid."},
    Field{"src", Field::Type::address, Validity::ip, Field::everywhere, NK_AT(src), nullptr,
          "The source as an ipaddress object, or None."},
    Field{"dst", Field::Type::address, Validity::ip, Field::everywhere, NK_AT(dst), nullptr,
          "The destination as an ipaddress object, or None."},
    Field{"next_header", Field::Type::protocol, Validity::ip, Field::everywhere, NK_AT(next_header), nullptr,
          "The protocol number in the IP header itself, a Protocol if it has a name there, or None."},
    Field{"protocol", Field::Type::protocol, Validity::protocol, Field::everywhere, NK_AT(protocol), nullptr,
          "The protocol number after IPv6 extension headers, a Protocol if it has a name there; None where their chain "
          "is cut short."},
    Field{"src_port", Field::Type::number, Validity::ports, Field::everywhere, NK_AT(src_port), nullptr,
          "The source port of TCP, UDP, UDP-Lite, SCTP or DCCP, or None."},
    Field{"dst_port", Field::Type::number, Validity::ports, Field::everywhere, NK_AT(dst_port), nullptr,
          "The destination port, or None."},
    Field{"tcp_flags", Field::Type::tcp_flags, Validity::tcp, Field::everywhere, NK_AT(tcp_flags), nullptr,
          "The TCP flags, CWR (0x80) to FIN (0x01), as TCPFlags, or None."},
    Field{"tcp_seq", Field::Type::number, Validity::tcp, Field::everywhere, NK_AT(tcp_seq), nullptr,
          "The sequence number of a TCP segment, or None."},
    Field{"tcp_ack", Field::Type::number, Validity::tcp, Field::everywhere, NK_AT(tcp_ack), nullptr,
          "The acknowledgement number of a TCP segment, valid if the flag ACK is set, or None."},
    Field{"tcp_window", Field::Type::number, Validity::tcp, Field::everywhere, NK_AT(tcp_window), nullptr,
          "The window of a TCP segment as it stands in the header, not scaled, or None."},
    Field{"icmp_type", Field::Type::number, Validity::icmp, Field::everywhere, NK_AT(icmp_type),
          [](const nk_event& event) -> uint32_t { return event.src_port; },
          "The type of an ICMP or ICMPv6 message, or None."},
    Field{"icmp_code", Field::Type::number, Validity::icmp, Field::everywhere, NK_AT(icmp_code),
          [](const nk_event& event) -> uint32_t { return event.dst_port; },
          "The code of an ICMP or ICMPv6 message, or None."},
    Field{"icmp_id", Field::Type::number, Validity::echo, Field::everywhere, NK_AT(icmp_id), nullptr,
          "The identifier of an ICMP or ICMPv6 echo request or reply, which ping keeps as long as it runs, or None."},
    Field{"icmp_seq", Field::Type::number, Validity::echo, Field::everywhere, NK_AT(icmp_seq), nullptr,
          "The sequence number of an ICMP or ICMPv6 echo: a reply has that of its request. None for others."},
    Field{"payload_len", Field::Type::number, Validity::ip, Field::everywhere, NK_AT(payload_len), nullptr,
          "Bytes after the IP header, IPv6 extension headers included, as the header says it; from the skb for a "
          "packet too large for that field. None if not IP."},
    Field{"hop_limit", Field::Type::number, Validity::ip, Field::everywhere, NK_AT(hop_limit), nullptr,
          "The hop limit, or the time to live of IPv4, or None."},
    Field{"traffic_class", Field::Type::number, Validity::ip, Field::everywhere, NK_AT(traffic_class),
          [](const nk_event& event) -> uint32_t { return event.ip_word >> 20 & 0xff; },
          "The traffic class, or the type of service of IPv4, or None."},
    Field{"flow_label", Field::Type::number, Validity::ipv6, Field::everywhere, NK_AT(flow_label),
          [](const nk_event& event) -> uint32_t { return event.ip_word & 0xfffff; }, "The IPv6 flow label, or None."},
    Field{"fragment", Field::Type::fragment, Validity::fragment, Field::event, NK_AT(fragment_offset), nullptr,
          "A Fragment(offset, more) if the packet is one, else None."},
    Field{"fragment_offset", Field::Type::number, Validity::fragment, Field::table, NK_AT(fragment_offset), nullptr,
          "Where a fragment belongs: bytes from the start of the fragmented part, a multiple of 8."},
    Field{"fragment_more", Field::Type::truth, Validity::fragment, Field::table, NK_AT(fragment_more), nullptr,
          "Whether fragments follow this one."},
    Field{"length", Field::Type::number, Validity::always, Field::everywhere, NK_AT(length), nullptr,
          "Bytes of the skb, Ethernet header included, before segmentation."},
    Field{"gso_segs", Field::Type::number, Validity::always, Field::everywhere, NK_AT(gso_segs),
          [](const nk_event& event) -> uint32_t { return event.gso_segs > 1 ? event.gso_segs : 1; },
          "How many packets on a wire the skb stands for: 1 unless GSO."},
    Field{"ethertype", Field::Type::number, Validity::always, Field::everywhere, NK_AT(ethertype), nullptr,
          "The EtherType after VLAN tags."},
    Field{"vlan_id", Field::Type::number, Validity::vlan, Field::everywhere, NK_AT(vlan_id),
          [](const nk_event& event) -> uint32_t { return event.vlan_tci & 0xfff; },
          "The VLAN ID of the outermost tag, or None."},
    Field{"flags", Field::Type::number, Validity::always, Field::array, NK_AT(flags), nullptr,
          "Which fields apply: one bit for each group of fields (EventBatch.FLAGS)."},
    Field{"data", Field::Type::data, Validity::always, Field::event, 0, 0, nullptr,
          "The packet's first bytes, from the Ethernet header on: as many as snaplen says and the packet has. None "
          "where none were asked for."},
};

#undef NK_AT
// NOLINTEND(cppcoreguidelines-macro-usage,bugprone-macro-parentheses)

template <Field::In in>
constexpr size_t count_of() {
  size_t count = 0;
  for (const Field& field : all) count += (field.in & in) != 0 ? 1 : 0;
  return count;
}

// The fields that are in events, in the array or in the Arrow table, by their number in `all`, in order.
template <Field::In in>
constexpr auto numbers_of() {
  std::array<size_t, count_of<in>()> numbers{};
  size_t next = 0;
  for (size_t i = 0; i < all.size(); ++i)
    if ((all[i].in & in) != 0) numbers[next++] = i;
  return numbers;
}

// Calls f.template operator()<i>() for each of them and returns the results as an array.
template <Field::In in, typename F>
constexpr auto for_each_of(F f) {
  return [&]<size_t... place>(std::index_sequence<place...>) {
    return std::array{f.template operator()<numbers_of<in>()[place]>()...};
  }(std::make_index_sequence<count_of<in>()>());
}

}  // namespace fields
}  // namespace netkit_bpf
