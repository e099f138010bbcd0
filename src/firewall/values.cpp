// SPDX-License-Identifier: MIT
#include "firewall/values.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <array>
#include <charconv>

#include "firewall/words.hpp"

namespace netkit_bpf::firewall {

namespace {

constexpr std::string_view an_address = "any, an address, a network (10.0.0.0/8, fd00::/64) or a table (<name>)";
constexpr size_t longest_table_name = 31;  // pf.conf(5)

std::optional<uint32_t> number_in(std::string_view text, uint32_t most) {
  uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value > most) return std::nullopt;
  return value;
}

}  // namespace

void Values::expected(std::string_view what) const {
  const Token& found = here();
  const std::string but = found.kind == Token::Kind::end ? "the end of the line" : "'" + found.text + "'";
  fail("expected " + std::string(what) + ", not " + but);
}

template <typename Item>
void Values::list(const Item& item) {
  int depth = 0;
  bool is_empty = true;
  do {  // NOLINT(cppcoreguidelines-avoid-do-while)
    while (take("{")) ++depth;
    if (depth > 0 && here().text == "}" && is_empty) fail("there is nothing between these braces");
    item();
    is_empty = false;
    bool has_comma = false;
    while (depth > 0) {  // commas are optional, as in pf.conf(5)
      if (take("}"))
        --depth;
      else if (!has_comma && take(","))
        has_comma = true;
      else
        break;
    }
  } while (depth > 0);
}

Network Values::network() {
  if (here().kind != Token::Kind::word) expected(an_address);
  const std::string text = here().text;
  const size_t slash = text.find('/');
  const std::string host = text.substr(0, slash);
  Network network;
  std::array<uint8_t, 16> bytes{};
  if (::inet_pton(AF_INET, host.c_str(), bytes.data()) == 1) {
    for (size_t at = 0; at < 4; ++at) network.first.low = network.first.low << 8 | bytes.at(at);
  } else if (::inet_pton(AF_INET6, host.c_str(), bytes.data()) == 1) {
    network.family = Family::ipv6;
    for (size_t at = 0; at < 8; ++at) {
      network.first.high = network.first.high << 8 | bytes.at(at);
      network.first.low = network.first.low << 8 | bytes.at(8 + at);
    }
  } else {
    if (host.find('%') != std::string::npos) fail("an address in a rule has no zone: a pair is its own link");
    expected(an_address);
  }
  const uint32_t most = network.family == Family::ipv4 ? 32 : 128;
  const std::optional<uint32_t> length =
      slash == std::string::npos ? most : number_in(std::string_view(text).substr(slash + 1), most);
  if (!length) fail("expected a prefix length from 0 to " + std::to_string(most) + " behind " + host + "/");
  network.length = static_cast<uint8_t>(*length);

  constexpr uint64_t mapped = 0xffff;  // ::ffff:0:0/96, RFC 4291 section 2.5.5.2
  if (network.family == Family::ipv6 && network.length >= 96 && network.first.high == 0 &&
      network.first.low >> 32 == mapped) {
    const Network inner{.family = Family::ipv4,
                        .first = {.high = 0, .low = network.first.low & 0xffffffff},
                        .length = static_cast<uint8_t>(network.length - 96)};
    fail(text + " is an IPv4 address in IPv6's notation, which packets do not carry: write " + to_text(inner));
  }
  const Address host_bits = Network{.family = network.family, .first = {}, .length = network.length}.last();
  if ((network.first.high & host_bits.high) != 0 || (network.first.low & host_bits.low) != 0) {
    Network whole = network;
    whole.first.high &= ~host_bits.high;
    whole.first.low &= ~host_bits.low;
    fail(text + " has host bits set: write " + to_text(whole) + " for the network or " + host + " for the address");
  }
  ++at_;
  return network;
}

std::string Values::table_name() {
  if (!take("<")) expected("a table's name in <>");
  const std::string name = here().text;
  const bool is_name = here().kind == Token::Kind::word && name.size() <= longest_table_name &&
                       name.find_first_of(".:/%") == std::string::npos;
  if (!is_name) expected("a table's name, of at most 31 letters, digits, _ and -");
  ++at_;
  if (!take(">")) expected("> behind a table's name");
  return name;
}

void Values::networks(std::vector<Network>& all) {
  list([&] { all.push_back(network()); });
}

void Values::addresses(Endpoint& endpoint) {
  if (take("any")) return;
  if (here().kind == Token::Kind::mark && here().text == "<")
    endpoint.set = table_name();
  else
    networks(endpoint.networks);
}

Range Values::range(std::string_view expected_here) {
  constexpr uint32_t most = 65535;
  const std::string operation = here().kind == Token::Kind::mark ? here().text : std::string();
  if (operation == "<" || operation == "<=" || operation == ">" || operation == ">=") {
    ++at_;
    const std::optional<uint32_t> limit =
        here().kind == Token::Kind::word ? number_in(here().text, most) : std::nullopt;
    if (!limit) expected("a number from 0 to 65535 behind " + operation);
    uint32_t first = 0;
    uint32_t beyond = most + 1;
    if (operation[0] == '>')
      first = operation == ">" ? *limit + 1 : *limit;
    else
      beyond = operation == "<" ? *limit : *limit + 1;
    if (first >= beyond) fail("no number is " + operation + " " + here().text);
    ++at_;
    return {.first = static_cast<uint16_t>(first), .last = static_cast<uint16_t>(beyond - 1)};
  }
  if (here().kind != Token::Kind::word) expected(expected_here);
  const std::string_view text = here().text;
  const size_t dash = text.find_first_of("-:");
  const std::optional<uint32_t> first = number_in(text.substr(0, dash), most);
  const std::optional<uint32_t> last = dash == std::string_view::npos ? first : number_in(text.substr(dash + 1), most);
  if (!first || !last) expected(expected_here);
  if (*first > *last)
    fail("the range " + std::string(text) + " is reversed: write " + std::to_string(*last) + "-" +
         std::to_string(*first));
  ++at_;
  return {.first = static_cast<uint16_t>(*first), .last = static_cast<uint16_t>(*last)};
}

void Values::ranges(std::vector<Range>& all, std::string_view expected_here) {
  list([&] { all.push_back(range(expected_here)); });
}

uint8_t Values::protocol() {
  constexpr uint32_t most = 255;
  const bool is_word = here().kind == Token::Kind::word;
  if (is_word) {
    if (const std::optional<uint8_t> known = protocol_number(here().text)) {
      ++at_;
      return *known;
    }
    if (const std::optional<uint32_t> given = number_in(here().text, most)) {
      ++at_;
      return static_cast<uint8_t>(*given);
    }
  }
  expected("a protocol (tcp, udp, icmp, icmp6, sctp, ... or 0 to 255)");
}

void Values::protocols(Rule& rule) {
  list([&] { rule.protocols.push_back(protocol()); });
}

void Values::flags(Rule& rule, bool are_all) {
  const std::string text = here().text;
  if (are_all) {
    const std::optional<uint8_t> all = tcp_flags_number(text);
    if (here().kind != Token::Kind::word || !all) expected("the flags that are set, of the letters F S R P A U E W");
    rule.tcp_flags = TcpFlags{.set = *all, .mask = 0xff};
    ++at_;
    return;
  }
  const size_t slash = text.find('/');
  if (here().kind != Token::Kind::word || slash == std::string::npos) expected("flags as SET/MASK (S/SA, /R)");
  const std::optional<uint8_t> set = tcp_flags_number(std::string_view(text).substr(0, slash));
  const std::optional<uint8_t> mask = tcp_flags_number(std::string_view(text).substr(slash + 1));
  if (!set || !mask || *mask == 0) expected("flags as SET/MASK (S/SA, /R) of the letters F S R P A U E W");
  rule.tcp_flags = TcpFlags{.set = *set, .mask = *mask};
  ++at_;
}

void Values::icmp_types(Rule& rule) {
  if (rule.protocols.size() != 1 || (rule.protocols[0] != IPPROTO_ICMP && rule.protocols[0] != IPPROTO_ICMPV6))
    fail("icmp-type stands behind the protocol icmp or icmp6, one of them");
  const uint8_t protocol = rule.protocols[0];
  list([&] {
    if (here().kind == Token::Kind::word) {
      if (const std::optional<uint8_t> known = icmp_type_number(protocol, here().text)) {
        rule.icmp_types.push_back({.first = *known, .last = *known});
        ++at_;
        return;
      }
    }
    constexpr std::string_view a_type = "an ICMP type (echoreq, unreach, ... or 0 to 255)";
    const Token first = here();
    const Range types = range(a_type);
    if (types.last > 255) tokens_.fail(first, "expected " + std::string(a_type) + ", not '" + first.text + "'");
    rule.icmp_types.push_back(types);
  });
}

void Values::rate(Rule& rule) {
  constexpr uint32_t most = 1'000'000'000;
  constexpr std::string_view a_rate = "a rate (100/s, 20/min, 5/h or 1/d, to 1000000000)";
  const std::string_view text = here().text;
  const size_t slash = text.find('/');
  if (here().kind != Token::Kind::word || slash == std::string_view::npos) expected(a_rate);
  const std::optional<uint32_t> packets = number_in(text.substr(0, slash), most);
  const std::optional<uint32_t> seconds = unit_seconds(text.substr(slash + 1));
  if (!packets || *packets == 0 || !seconds) expected(a_rate);
  rule.rate = Rate{.packets = *packets, .seconds = *seconds};
  ++at_;
  if (!take("burst")) return;
  const std::optional<uint32_t> burst = here().kind == Token::Kind::word ? number_in(here().text, most) : std::nullopt;
  if (!burst || *burst == 0) expected("how many packets at once (1 to 1000000000)");
  rule.rate->burst = *burst;
  ++at_;
}

std::optional<uint32_t> Values::number(uint32_t most) {
  const std::optional<uint32_t> value = here().kind == Token::Kind::word ? number_in(here().text, most) : std::nullopt;
  if (value) skip();
  return value;
}

}  // namespace netkit_bpf::firewall
