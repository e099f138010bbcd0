// SPDX-License-Identifier: MIT
// A flow as a row of a table, and the fields of it: the one place that lists them. The columns of numpy and of Arrow
// and what Python's Flow holds come from here.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace netkit_bpf {

// Which fields of a flow are known: bits. What a table is grouped by leaves out the others.
enum FlowKnown : uint16_t {
  known_pair = 1 << 0,
  known_side = 1 << 1,
  known_ethertype = 1 << 2,
  known_family = 1 << 3,
  known_src = 1 << 4,
  known_dst = 1 << 5,
  known_protocol = 1 << 6,
  known_src_port = 1 << 7,
  known_dst_port = 1 << 8,
  known_icmp = 1 << 9,
  known_tcp_flags = 1 << 10,
  known_times = 1 << 11,
  known_handshake = 1 << 12,
};

// What tells flows apart: whole words. What is not known is zero.
struct FlowIdentity {
  std::array<uint8_t, 16> src{};  // network byte order; IPv4 takes the first four bytes
  std::array<uint8_t, 16> dst{};
  uint16_t pair = 0;
  uint16_t ethertype = 0;
  uint16_t src_port = 0;
  uint16_t dst_port = 0;
  uint8_t side = 0;  // enum nk_side
  uint8_t family = 0;
  uint8_t protocol = 0;
  uint8_t icmp_type = 0;
  uint8_t icmp_code = 0;
  uint8_t unused = 0;
  uint16_t known = 0;  // FlowKnown, without those of times and handshake

  bool operator==(const FlowIdentity&) const = default;
};
static_assert(sizeof(FlowIdentity) == 48);

struct FlowRow {
  FlowIdentity identity;
  uint64_t flows = 0;  // how many are added up in this row
  uint64_t packets = 0;
  uint64_t skbs = 0;
  uint64_t bytes = 0;
  int64_t first_ns = 0;  // Unix time
  int64_t last_ns = 0;
  uint64_t handshake_ns = 0;
  uint16_t known = 0;  // FlowKnown
  uint8_t tcp_flags = 0;
  std::array<uint8_t, 5> unused{};
};
static_assert(sizeof(FlowRow) == 112);

struct FlowField {
  enum class Type : uint8_t { pair, side, address, number, time };

  const char* name;
  Type type;
  uint16_t known;  // the bit of FlowRow::known that says whether it applies; 0: always
  size_t offset;
  size_t size;
};

namespace flow_fields {

// NOLINTBEGIN(cppcoreguidelines-macro-usage,bugprone-macro-parentheses): offsetof() is a macro too
#define NK_IDENTITY(member) offsetof(FlowRow, identity) + offsetof(FlowIdentity, member), sizeof(FlowIdentity::member)
#define NK_ROW(member) offsetof(FlowRow, member), sizeof(FlowRow::member)

inline constexpr std::array all{
    FlowField{"pair_name", FlowField::Type::pair, known_pair, NK_IDENTITY(pair)},
    FlowField{"side", FlowField::Type::side, known_side, NK_IDENTITY(side)},
    FlowField{"ethertype", FlowField::Type::number, known_ethertype, NK_IDENTITY(ethertype)},
    FlowField{"family", FlowField::Type::number, known_family, NK_IDENTITY(family)},
    FlowField{"src", FlowField::Type::address, known_src, NK_IDENTITY(src)},
    FlowField{"dst", FlowField::Type::address, known_dst, NK_IDENTITY(dst)},
    FlowField{"protocol", FlowField::Type::number, known_protocol, NK_IDENTITY(protocol)},
    FlowField{"src_port", FlowField::Type::number, known_src_port, NK_IDENTITY(src_port)},
    FlowField{"dst_port", FlowField::Type::number, known_dst_port, NK_IDENTITY(dst_port)},
    FlowField{"icmp_type", FlowField::Type::number, known_icmp, NK_IDENTITY(icmp_type)},
    FlowField{"icmp_code", FlowField::Type::number, known_icmp, NK_IDENTITY(icmp_code)},
    FlowField{"flows", FlowField::Type::number, 0, NK_ROW(flows)},
    FlowField{"packets", FlowField::Type::number, 0, NK_ROW(packets)},
    FlowField{"skbs", FlowField::Type::number, 0, NK_ROW(skbs)},
    FlowField{"bytes", FlowField::Type::number, 0, NK_ROW(bytes)},
    FlowField{"first_ns", FlowField::Type::time, known_times, NK_ROW(first_ns)},
    FlowField{"last_ns", FlowField::Type::time, known_times, NK_ROW(last_ns)},
    FlowField{"tcp_flags", FlowField::Type::number, known_tcp_flags, NK_ROW(tcp_flags)},
    FlowField{"handshake_ns", FlowField::Type::number, known_handshake, NK_ROW(handshake_ns)},
};

#undef NK_IDENTITY
#undef NK_ROW
// NOLINTEND(cppcoreguidelines-macro-usage,bugprone-macro-parentheses)

}  // namespace flow_fields
}  // namespace netkit_bpf
