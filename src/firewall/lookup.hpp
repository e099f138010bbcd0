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

  // Those below a number, in order, and how many were looked at for that: `most` of those that match, whichever.
  struct Earlier {
    std::vector<uint32_t> numbers;
    size_t looked = 0;
  };
  [[nodiscard]] Earlier matching_below(const Packet& packet, size_t below, size_t most) const;

 private:
  // Calls `take` with the number of each rule that matches, in the order of the tables, until it returns false.
  template <typename Take>
  void visit(const Packet& packet, const Take& take) const;
  template <typename Item>
  [[nodiscard]] Item at(uint64_t offset) const;
  [[nodiscard]] uint32_t address_row(const nk_fw_addresses& addresses, const Address& address, bool is_ipv6) const;

  const Tables& tables_;
};

// What is odd about a ruleset, a sentence each: rules that never decide, because an earlier one matches all that they
// match.
std::vector<std::string> warnings(const Ruleset& ruleset, const Tables& tables);

}  // namespace netkit_bpf::firewall
