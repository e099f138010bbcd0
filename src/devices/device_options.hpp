// SPDX-License-Identifier: MIT
// What ip-link(8) sets on a device of any kind, at its creation and later.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "netlink/socket.hpp"

namespace netkit_bpf {

// An attribute that is one number (u32): a row here is all that it takes.
struct LinkNumber {
  const char* name;  // as ip-link(8) has it
  int attribute;     // IFLA_*, by number because the system's headers may be older
};

inline constexpr std::array<LinkNumber, 10> link_numbers{{
    {"mtu", 4},
    {"txqueuelen", 13},
    {"group", 27},
    {"num_tx_queues", 31},
    {"num_rx_queues", 32},
    {"gso_max_segs", 40},
    {"gso_max_size", 41},
    {"gro_max_size", 58},
    {"gso_ipv4_max_size", 63},
    {"gro_ipv4_max_size", 64},
}};

using LinkNumbers = std::array<std::optional<uint32_t>, link_numbers.size()>;

// The place of a name in the table. Throws std::out_of_range for another one.
size_t link_number(std::string_view name);

// Empty: what the kernel chooses, or at a change: what it is.
struct DeviceOptions {
  std::string name;
  std::optional<int> ifindex;
  std::optional<std::array<uint8_t, 6>> mac;
  std::optional<std::string> alias;
  std::optional<uint8_t> addrgenmode;  // IN6_ADDR_GEN_MODE_*
  LinkNumbers numbers;
};

// Puts what the kernel takes in the message that creates a device.
void put_at_creation(Message& message, const DeviceOptions& options);

void put_numbers(Message& message, const DeviceOptions& options);

// Puts what it takes only once the device is there; returns false where that is nothing.
bool put_later(Message& message, const DeviceOptions& options);

}  // namespace netkit_bpf
