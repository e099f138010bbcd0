// SPDX-License-Identifier: MIT
#include "firewall/words.hpp"

#include <netinet/in.h>

#include <array>
#include <span>

namespace netkit_bpf::firewall {

namespace {

struct Word {
  std::string_view word;
  uint8_t number;
};

// The first word of a number is the one that is written.
constexpr std::array protocols{
    Word{"icmp", IPPROTO_ICMP},        Word{"igmp", IPPROTO_IGMP},
    Word{"tcp", IPPROTO_TCP},          Word{"udp", IPPROTO_UDP},
    Word{"dccp", IPPROTO_DCCP},        Word{"gre", IPPROTO_GRE},
    Word{"esp", IPPROTO_ESP},          Word{"ah", IPPROTO_AH},
    Word{"icmp6", IPPROTO_ICMPV6},     Word{"icmpv6", IPPROTO_ICMPV6},
    Word{"ipv6-icmp", IPPROTO_ICMPV6}, Word{"ospf", 89},
    Word{"pim", IPPROTO_PIM},          Word{"vrrp", 112},
    Word{"sctp", IPPROTO_SCTP},        Word{"udplite", IPPROTO_UDPLITE},
};

// icmp(4) and icmp6(4) of OpenBSD.
constexpr std::array icmp_types{
    Word{"echorep", 0},   Word{"unreach", 3},    Word{"redir", 5},  Word{"echoreq", 8},
    Word{"routeradv", 9}, Word{"routersol", 10}, Word{"timex", 11}, Word{"paramprob", 12},
};
constexpr std::array icmp6_types{
    Word{"unreach", 1},      Word{"toobig", 2},      Word{"timex", 3},       Word{"paramprob", 4},
    Word{"echoreq", 128},    Word{"echorep", 129},   Word{"listqry", 130},   Word{"listenrep", 131},
    Word{"listendone", 132}, Word{"routersol", 133}, Word{"routeradv", 134}, Word{"neighbrsol", 135},
    Word{"neighbradv", 136}, Word{"redir", 137},
};

struct Unit {
  std::string_view word;
  uint32_t seconds;
};

// The first word of a unit is the one that is written; the long ones are nft(8)'s.
constexpr std::array units{
    Unit{"s", 1},    Unit{"second", 1},  Unit{"min", 60},  Unit{"minute", 60},
    Unit{"h", 3600}, Unit{"hour", 3600}, Unit{"d", 86400}, Unit{"day", 86400},
};

constexpr std::string_view flag_letters = "FSRPAUEW";

std::optional<uint8_t> find(std::span<const Word> words, std::string_view word) {
  for (const Word& each : words)
    if (each.word == word) return each.number;
  return std::nullopt;
}

std::string name(std::span<const Word> words, uint8_t number) {
  for (const Word& each : words)
    if (each.number == number) return std::string(each.word);
  return std::to_string(number);
}

std::span<const Word> types_of(uint8_t protocol) {
  return protocol == IPPROTO_ICMPV6 ? std::span<const Word>(icmp6_types) : std::span<const Word>(icmp_types);
}

}  // namespace

std::string protocol_word(uint8_t number) { return name(protocols, number); }
std::optional<uint8_t> protocol_number(std::string_view word) { return find(protocols, word); }

bool has_ports(uint8_t protocol) {
  switch (protocol) {
    case IPPROTO_TCP:
    case IPPROTO_UDP:
    case IPPROTO_DCCP:
    case IPPROTO_SCTP:
    case IPPROTO_UDPLITE:
      return true;
    default:
      return false;
  }
}

std::string icmp_type_word(uint8_t protocol, uint8_t number) { return name(types_of(protocol), number); }
std::optional<uint8_t> icmp_type_number(uint8_t protocol, std::string_view word) {
  return find(types_of(protocol), word);
}

std::string unit_word(uint32_t seconds) {
  for (const Unit& each : units)
    if (each.seconds == seconds) return std::string(each.word);
  return std::to_string(seconds);
}

std::optional<uint32_t> unit_seconds(std::string_view word) {
  for (const Unit& each : units)
    if (each.word == word) return each.seconds;
  return std::nullopt;
}

std::string tcp_flags_word(uint8_t flags) {
  std::string word;
  for (size_t at = 0; at < flag_letters.size(); ++at)
    if ((flags >> at & 1U) != 0) word += flag_letters[at];
  return word;
}

std::optional<uint8_t> tcp_flags_number(std::string_view word) {
  unsigned flags = 0;
  for (const char letter : word) {
    const size_t at = flag_letters.find(letter);
    if (at == std::string_view::npos || (flags >> at & 1U) != 0) return std::nullopt;
    flags |= 1U << at;
  }
  return static_cast<uint8_t>(flags);
}

}  // namespace netkit_bpf::firewall
