// SPDX-License-Identifier: MIT
// THE table of the numeric (u32) attributes that ip-link(8) sets on a device. The messages, the checks, the properties
// of devices and the command's options all come from it.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <optional>
#include <string_view>

namespace netkit_bpf {

struct NumberRange {
  uint32_t lowest;
  uint32_t highest;
};

struct LinkNumber {
  const char* name;                  // as Python calls it
  const char* word;                  // as ip-link(8) does
  const char* key;                   // as ip -json does
  int attribute;                     // IFLA_*, by number because the system's headers may be older
  NumberRange at_creation;           // of a netkit device: drivers/net/netkit.c and net/core/rtnetlink.c
  std::optional<NumberRange> later;  // of a device of any kind; empty: it cannot be changed
  const char* what;
};

inline constexpr uint32_t largest_int = std::numeric_limits<int32_t>::max();
inline constexpr NumberRange any_int{0, largest_int};
inline constexpr NumberRange any_u32{0, std::numeric_limits<uint32_t>::max()};
inline constexpr NumberRange queue_count{1, 4096};
inline constexpr NumberRange segment_count{1, 65535};
inline constexpr NumberRange segment_size{1, 8 * 65535};  // GSO_MAX_SIZE of include/linux/netdevice.h

inline constexpr auto link_numbers = std::to_array<LinkNumber>({
    {"mtu", "mtu", "mtu", 4, {68, 65535}, any_int, "largest packet, in bytes without the Ethernet header"},
    {"txqueuelen", "txqueuelen", "txqlen", 13, any_int, any_int, "packets that a queueing discipline may hold"},
    {"group", "group", "group", 27, any_u32, any_u32, "number of the device's group; 0 is the default one"},
    {"num_tx_queues", "numtxqueues", "num_tx_queues", 31, queue_count, {}, "transmit queues"},
    {"num_rx_queues", "numrxqueues", "num_rx_queues", 32, queue_count, {}, "receive queues"},
    {"gso_max_segs", "gso_max_segs", "gso_max_segs", 40, segment_count, segment_count,
     "most packets on the wire that one segment may stand for"},
    {"gso_max_size", "gso_max_size", "gso_max_size", 41, segment_size, segment_size,
     "largest IPv6 segment that the stack hands down, in bytes"},
    {"gro_max_size", "gro_max_size", "gro_max_size", 58, segment_size, segment_size,
     "largest IPv6 packet that receiving puts together, in bytes"},
    {"gso_ipv4_max_size", "gso_ipv4_max_size", "gso_ipv4_max_size", 63, segment_size, segment_size,
     "largest IPv4 segment that the stack hands down, in bytes"},
    {"gro_ipv4_max_size", "gro_ipv4_max_size", "gro_ipv4_max_size", 64, segment_size, segment_size,
     "largest IPv4 packet that receiving puts together, in bytes"},
});

using LinkNumbers = std::array<std::optional<uint32_t>, link_numbers.size()>;

// The index of a name in the table. Throws std::out_of_range for any other name.
size_t link_number(std::string_view name);

}  // namespace netkit_bpf
