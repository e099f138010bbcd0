// SPDX-License-Identifier: MIT
// IP addresses between Python and the core: 4 or 16 bytes, which tell the family.
#pragma once

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <string>

#include "devices/address.hpp"

namespace netkit_bpf::python {

inline int family_of(const std::string& packed) { return packed.size() == 16 ? AF_INET6 : AF_INET; }

inline std::array<uint8_t, 16> bytes_of(const std::string& packed) {
  std::array<uint8_t, 16> bytes{};
  std::copy_n(packed.begin(), std::min(packed.size(), bytes.size()), bytes.begin());
  return bytes;
}

inline Address to_address(const std::string& packed, uint8_t prefix_len, uint32_t flags) {
  return {family_of(packed), bytes_of(packed), prefix_len, flags, {}};
}

}  // namespace netkit_bpf::python
