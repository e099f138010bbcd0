// SPDX-License-Identifier: MIT
// A rule of the firewall, as a value.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/side.hpp"

namespace netkit_bpf::firewall {

enum class Action : uint8_t { pass, drop };

// As in <netkit_bpf/firewall.h>.
enum class Family : uint8_t { other, ipv4, ipv6, arp };

// Which fragments a rule is about.
enum class Fragment : uint8_t { any, first, later };

// In host byte order. IPv4 takes the lower 32 bits.
struct Address {
  uint64_t high = 0;
  uint64_t low = 0;
  auto operator<=>(const Address&) const = default;
};

struct Network {
  Family family = Family::ipv4;
  Address first;
  uint8_t length = 0;  // of its prefix

  [[nodiscard]] Address last() const;
  bool operator==(const Network&) const = default;
};

// Both ends are in it.
struct Range {
  uint16_t first = 0;
  uint16_t last = 0;
  bool operator==(const Range&) const = default;
};

// Where packets come from, or go to. What is empty is any.
struct Endpoint {
  std::vector<Network> networks;
  std::string set;  // the name of one, instead of networks
  std::vector<Range> ports;

  [[nodiscard]] bool has_address() const { return !networks.empty() || !set.empty(); }
  bool operator==(const Endpoint&) const = default;
};

// Of the flags in the mask, these are set and the others are not.
struct TcpFlags {
  uint8_t set = 0;
  uint8_t mask = 0;
  bool operator==(const TcpFlags&) const = default;
};

// So many packets in so many seconds, and `burst` of them at once. What exceeds it is dropped.
struct Rate {
  static constexpr uint32_t usual_burst = 5;  // as with nft(8)

  uint32_t packets = 0;
  uint32_t seconds = 1;
  uint32_t burst = usual_burst;
  bool operator==(const Rate&) const = default;
};

// What is empty is any. Lists are in the order in which they were given.
struct Rule {
  Action action = Action::pass;
  std::optional<Side> side;
  bool log = false;  // each packet that it decides makes an event
  std::optional<Family> family;
  std::vector<uint8_t> protocols;
  Endpoint from;
  Endpoint to;
  std::optional<TcpFlags> tcp_flags;
  std::vector<Range> icmp_types;
  std::optional<uint8_t> icmp_code;
  std::vector<Range> lengths;  // of the whole packet, with its Ethernet header
  std::optional<Fragment> fragment;
  std::optional<Rate> rate;
  std::string label;

  uint32_t line = 0;  // of the text that it was read from; 0: of none

  // The line counts for nothing.
  bool operator==(const Rule& other) const;
};

using Sets = std::map<std::string, std::vector<Network>>;

struct Ruleset {
  std::vector<Rule> rules;
  Sets sets;
};

// As Ruleset::parse reads them; a rule without its line's end.
std::string to_text(const Rule& rule);
std::string to_text(const Network& network);
std::string to_text(const Rate& rate);
std::string to_text(const Ruleset& ruleset);

// For each rule of `now` the number of the same one of `before`, which stands for no other; -1 where it is new.
std::vector<int64_t> same_rules(const std::vector<Rule>& now, const std::vector<Rule>& before);

// The families of the packets that it can match, a bit for each; a set can hold networks of both.
uint8_t families_of(const Rule& rule);
constexpr uint8_t bit(Family family) { return static_cast<uint8_t>(1U << static_cast<unsigned>(family)); }

// Refuses what contradicts itself, with std::invalid_argument that says what.
void check(const Rule& rule);

}  // namespace netkit_bpf::firewall
