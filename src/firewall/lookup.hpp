// SPDX-License-Identifier: MIT
// Looks packets up in compiled tables, as bpf/firewall.bpf.c does.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "firewall/compiler.hpp"
#include "firewall/packet.hpp"

namespace netkit_bpf::firewall {

class Lookup {
 public:
  explicit Lookup(const Tables& tables) : tables_(tables) {}

  // The numbers of the rules that match, in order, up to `most` of them.
  [[nodiscard]] std::vector<uint32_t> matching(const Packet& packet, size_t most) const;

 private:
  template <typename Item>
  [[nodiscard]] Item at(uint64_t offset) const;
  [[nodiscard]] uint32_t address_row(const nk_fw_addresses& addresses, const Address& address, bool is_ipv6) const;

  const Tables& tables_;
};

// What is odd about a ruleset, a sentence each: rules that never decide, because an earlier one matches all that they
// match.
std::vector<std::string> warnings(const Ruleset& ruleset, const Tables& tables);

}  // namespace netkit_bpf::firewall
