// SPDX-License-Identifier: MIT
#include "firewall/rule.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <bit>
#include <functional>
#include <stdexcept>
#include <tuple>
#include <unordered_map>

#include "bpf/hook.hpp"
#include "firewall/words.hpp"

namespace netkit_bpf::firewall {

namespace {

constexpr uint8_t ip_families = bit(Family::ipv4) | bit(Family::ipv6);
constexpr uint8_t all_families = ip_families | bit(Family::arp) | bit(Family::other);

std::string address_text(const Network& network) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (network.family == Family::ipv4) {
    const uint32_t address = htonl(static_cast<uint32_t>(network.first.low));
    ::inet_ntop(AF_INET, &address, text.data(), text.size());
  } else {
    std::array<uint8_t, 16> bytes{};
    for (size_t at = 0; at < 8; ++at) {
      bytes.at(at) = static_cast<uint8_t>(network.first.high >> (56 - 8 * at));
      bytes.at(8 + at) = static_cast<uint8_t>(network.first.low >> (56 - 8 * at));
    }
    ::inet_ntop(AF_INET6, bytes.data(), text.data(), text.size());
  }
  return text.data();
}

template <typename Items, typename Text>
std::string list_text(const Items& items, const Text& text) {
  if (items.size() == 1) return text(items.front());
  std::string all = "{ ";
  for (const auto& item : items) all += (all.size() > 2 ? ", " : "") + text(item);
  return all + " }";
}

std::string range_text(const Range& range) {
  const std::string first = std::to_string(range.first);
  return range.first == range.last ? first : first + "-" + std::to_string(range.last);
}

std::string endpoint_text(const char* word, const Endpoint& endpoint) {
  std::string text = std::string(" ") + word;
  if (!endpoint.set.empty())
    text += " <" + endpoint.set + ">";
  else if (endpoint.networks.empty())
    text += " any";
  else
    text += " " + list_text(endpoint.networks, [](const Network& network) { return to_text(network); });
  if (!endpoint.ports.empty()) text += " port " + list_text(endpoint.ports, range_text);
  return text;
}

const char* family_word(Family family) {
  if (family == Family::arp) return "arp";
  return family == Family::ipv4 ? "ip" : "ip6";
}

std::string quoted(const std::string& text) {
  std::string all = "\"";
  for (const char letter : text) {
    if (letter == '"' || letter == '\\') all += '\\';
    all += letter;
  }
  return all + "\"";
}

uint8_t families_of(const Endpoint& endpoint) {
  if (!endpoint.set.empty()) return ip_families;
  unsigned families = endpoint.networks.empty() ? unsigned{all_families} : 0U;
  for (const Network& network : endpoint.networks) families |= bit(network.family);
  return static_cast<uint8_t>(families);
}

bool has_protocol(const Rule& rule, uint8_t protocol) { return std::ranges::count(rule.protocols, protocol) != 0; }

// Of what rules mostly differ in; equal rules have equal ones.
uint64_t hash_of(const Rule& rule) {
  uint64_t hash = 0;
  const auto add = [&hash](uint64_t value) {
    constexpr uint64_t factor = 0x9e3779b97f4a7c15;  // 2^64 / golden ratio
    hash = (std::rotl(hash, 29) ^ value) * factor;
  };
  add(static_cast<uint64_t>(rule.action));
  for (const uint8_t protocol : rule.protocols) add(protocol);
  for (const Endpoint* endpoint : {&rule.from, &rule.to}) {
    add(std::hash<std::string>()(endpoint->set));
    for (const Network& network : endpoint->networks) {
      add(network.first.high);
      add(network.first.low << 8 ^ network.length);
    }
    for (const Range& range : endpoint->ports) add(uint64_t{range.first} << 16 | range.last);
  }
  add(std::hash<std::string>()(rule.label));
  return hash ^ hash >> 32;
}

std::string protocols_text(const Rule& rule) { return list_text(rule.protocols, protocol_word); }

}  // namespace

Address Network::last() const {
  const unsigned host = (family == Family::ipv4 ? 32U : 128U) - length;  // bits
  Address all{.high = 0, .low = ~uint64_t{0}};
  if (host < 64) all.low = (uint64_t{1} << host) - 1;
  if (host > 64) all.high = host == 128 ? ~uint64_t{0} : (uint64_t{1} << (host - 64)) - 1;
  return {.high = first.high | all.high, .low = first.low | all.low};
}

bool Rule::operator==(const Rule& other) const {
  const auto tie = [](const Rule& rule) {
    return std::tie(rule.action, rule.side, rule.log, rule.family, rule.protocols, rule.from, rule.to, rule.tcp_flags,
                    rule.icmp_types, rule.icmp_code, rule.lengths, rule.fragment, rule.rate, rule.label);
  };
  return tie(*this) == tie(other);
}

std::string to_text(const Network& network) {
  const bool is_host = network.length == (network.family == Family::ipv4 ? 32 : 128);
  return address_text(network) + (is_host ? std::string() : "/" + std::to_string(network.length));
}

std::string to_text(const Rate& rate) {
  std::string text = std::to_string(rate.packets) + "/" + unit_word(rate.seconds);
  if (rate.burst != Rate::usual_burst) text += " burst " + std::to_string(rate.burst);
  return text;
}

std::string to_text(const Rule& rule) {
  std::string text = rule.action == Action::pass ? "pass" : "drop";
  if (rule.side) text += std::string(" ") + name_of(*rule.side);
  if (rule.log) text += " log";
  if (rule.family) text += std::string(" ") + family_word(*rule.family);
  if (!rule.protocols.empty()) {
    const bool is_word = rule.protocols.size() == 1 && protocol_number(protocol_word(rule.protocols.front()));
    text += (is_word ? " " : " proto ") + protocols_text(rule);
  }
  if (rule.from != Endpoint{} || rule.to != Endpoint{})  // both, as pfctl(8) writes them
    text += endpoint_text("from", rule.from) + endpoint_text("to", rule.to);
  if (rule.tcp_flags)
    text += " flags " + tcp_flags_word(rule.tcp_flags->set) + "/" + tcp_flags_word(rule.tcp_flags->mask);
  if (!rule.icmp_types.empty()) {
    const uint8_t protocol = rule.protocols.front();
    text += " icmp-type " + list_text(rule.icmp_types, [protocol](const Range& range) {
              return range.first == range.last ? icmp_type_word(protocol, static_cast<uint8_t>(range.first))
                                               : range_text(range);
            });
  }
  if (rule.icmp_code) text += " code " + std::to_string(*rule.icmp_code);
  if (!rule.lengths.empty()) text += " length " + list_text(rule.lengths, range_text);
  if (rule.fragment) {
    constexpr std::array words{" fragment", " fragment first", " fragment later"};
    text += words.at(static_cast<size_t>(*rule.fragment));
  }
  if (rule.rate) text += " rate " + to_text(*rule.rate);
  if (!rule.label.empty()) text += " label " + quoted(rule.label);
  return text;
}

std::string to_text(const Ruleset& ruleset) {
  std::string text;
  for (const auto& [name, networks] : ruleset.sets) {
    text += "table <" + name + "> {";
    for (const Network& network : networks) text += (&network == networks.data() ? " " : ", ") + to_text(network);
    text += " }\n";
  }
  for (const Rule& rule : ruleset.rules) text += to_text(rule) + "\n";
  return text;
}

std::vector<int64_t> same_rules(const std::vector<Rule>& now, const std::vector<Rule>& before) {
  std::unordered_multimap<uint64_t, int64_t> numbers;
  numbers.reserve(before.size());
  for (size_t number = before.size(); number-- > 0;)
    numbers.emplace(hash_of(before[number]), static_cast<int64_t>(number));
  std::vector<int64_t> same;
  same.reserve(now.size());
  for (const Rule& rule : now) {
    const auto [first, last] = numbers.equal_range(hash_of(rule));
    const auto found =
        std::find_if(first, last, [&](const auto& each) { return before[static_cast<size_t>(each.second)] == rule; });
    same.push_back(found == last ? -1 : found->second);
    if (found != last) numbers.erase(found);
  }
  return same;
}

uint8_t families_of(const Rule& rule) {
  unsigned families = rule.family ? bit(*rule.family) : all_families;
  families &= families_of(rule.from);
  families &= families_of(rule.to);
  const bool is_about_ip = !rule.protocols.empty() || !rule.from.ports.empty() || !rule.to.ports.empty() ||
                           rule.tcp_flags || rule.fragment || rule.from.has_address() || rule.to.has_address();
  if (is_about_ip) families &= ip_families;
  if (!rule.icmp_types.empty() || rule.icmp_code)
    families &= has_protocol(rule, IPPROTO_ICMPV6) ? bit(Family::ipv6) : bit(Family::ipv4);
  return static_cast<uint8_t>(families);
}

void check(const Rule& rule) {
  const bool wants_ports = !rule.from.ports.empty() || !rule.to.ports.empty();
  for (const uint8_t protocol : rule.protocols) {
    if (wants_ports && !has_ports(protocol)) throw std::invalid_argument(protocol_word(protocol) + " has no ports");
  }
  if (rule.tcp_flags) {
    if (rule.protocols.size() != 1 || rule.protocols.front() != IPPROTO_TCP)
      throw std::invalid_argument("flags are for the protocol tcp alone");
    if (rule.tcp_flags->mask == 0) throw std::invalid_argument("flags need a mask: S/SA is SYN without ACK");
    if ((rule.tcp_flags->set & ~rule.tcp_flags->mask) != 0)
      throw std::invalid_argument("flags must be set that the mask leaves out: " + tcp_flags_word(rule.tcp_flags->set) +
                                  "/" + tcp_flags_word(rule.tcp_flags->mask) + " never matches");
  }
  if (!rule.icmp_types.empty() || rule.icmp_code) {
    const bool is_icmp = rule.protocols.size() == 1 &&
                         (rule.protocols.front() == IPPROTO_ICMP || rule.protocols.front() == IPPROTO_ICMPV6);
    if (!is_icmp) throw std::invalid_argument("icmp-type is for the protocol icmp or icmp6, one of them");
    if (rule.icmp_types.empty()) throw std::invalid_argument("a code needs an icmp-type");
  }
  if (rule.rate && rule.action != Action::pass)
    throw std::invalid_argument("a rate is for pass: what exceeds it is dropped");
  if (rule.fragment == Fragment::later && (wants_ports || rule.tcp_flags || !rule.icmp_types.empty()))
    throw std::invalid_argument("later fragments have no ports, flags or types");
  if (families_of(rule) == 0)
    throw std::invalid_argument("it never matches: its family, addresses and protocols are not of one family");
}

}  // namespace netkit_bpf::firewall
