// SPDX-License-Identifier: MIT
// Attributes that ip-link(8) sets on a device of any kind, at creation and later.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "base/words.hpp"
#include "devices/link_numbers.hpp"
#include "netlink/message.hpp"

namespace netkit_bpf {

// enum in6_addr_gen_mode: how the kernel makes a device's IPv6 link-local address.
enum class AddrGenMode : uint8_t { eui64 = 0, none = 1, stable_secret = 2, random = 3 };

inline constexpr Words<AddrGenMode, 4> addrgenmode_words{{{"eui64", AddrGenMode::eui64},
                                                          {"none", AddrGenMode::none},
                                                          {"stable_secret", AddrGenMode::stable_secret},
                                                          {"random", AddrGenMode::random}}};

// Empty: the kernel chooses; in a change: it stays as it is.
struct DeviceOptions {
  std::string name;
  std::optional<int> ifindex;
  std::optional<std::array<uint8_t, 6>> mac;
  std::optional<std::string> alias;
  std::optional<uint8_t> addrgenmode;  // AddrGenMode
  LinkNumbers numbers;
};

// Puts the options that the kernel takes in the message that creates a device.
void put_at_creation(Message& message, const DeviceOptions& options);

// Puts the options that the kernel takes for an existing device.
void put_changes(Message& message, const DeviceOptions& options);

}  // namespace netkit_bpf
