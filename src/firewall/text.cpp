// SPDX-License-Identifier: MIT
#include "firewall/text.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <string>
#include <utility>

#include "firewall/words.hpp"

namespace netkit_bpf::firewall {

namespace {

constexpr std::string_view a_port = "a port (0 to 65535) or a range of them (80-90)";
constexpr std::string_view a_length = "a length (0 to 65535) or a range of them (0-1280)";
constexpr std::string_view an_address = "any, an address, a network (10.0.0.0/8, fd00::/64) or a table (<name>)";
constexpr size_t longest_table_name = 31;  // pf.conf(5)

std::optional<uint32_t> number(std::string_view text, uint32_t most) {
  uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value > most) return std::nullopt;
  return value;
}

class Parser {
 public:
  Parser(const Tokens& tokens, std::vector<Token> statement) : tokens_(tokens), statement_(std::move(statement)) {}

  Rule rule();
  void table(Sets& sets);
  [[nodiscard]] bool is_table() const { return here().text == "table" && here().kind == Token::Kind::word; }

  // Of one field alone.
  void addresses(Endpoint& endpoint);
  void ranges(std::vector<Range>& all, std::string_view expected);
  void protocols(Rule& rule);
  void flags(Rule& rule);
  void icmp_types(Rule& rule);
  void networks(std::vector<Network>& all);
  std::string table_name();
  void finish() const {
    if (here().kind != Token::Kind::end) expected("the end");
  }

  [[noreturn]] void expected(std::string_view what) const;
  [[noreturn]] void fail(const std::string& problem) const { tokens_.fail(here(), problem); }
  [[nodiscard]] const Token& here() const { return statement_[at_]; }

 private:
  bool take(std::string_view text) {
    const bool is_here = here().text == text && here().kind != Token::Kind::string && here().kind != Token::Kind::end;
    if (is_here) ++at_;
    return is_here;
  }
  // An item, or several in braces.
  template <typename Item>
  void list(const Item& item);
  void endpoint(Endpoint& endpoint);
  void clause(Rule& rule);
  Network network();
  Range range(std::string_view expected);
  uint8_t protocol();
  template <typename Value>
  void refuse_second(const Value& value, std::string_view what) const {
    if (!(value == Value{})) fail("the " + std::string(what) + " is given twice");
  }

  const Tokens& tokens_;
  std::vector<Token> statement_;
  size_t at_ = 0;
};

void Parser::expected(std::string_view what) const {
  const Token& found = here();
  const std::string but = found.kind == Token::Kind::end ? "the end of the line" : "'" + found.text + "'";
  fail("expected " + std::string(what) + ", not " + but);
}

template <typename Item>
void Parser::list(const Item& item) {
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

Network Parser::network() {
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
      slash == std::string::npos ? most : number(std::string_view(text).substr(slash + 1), most);
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

std::string Parser::table_name() {
  if (!take("<")) expected("a table's name in <>");
  const std::string name = here().text;
  const bool is_name = here().kind == Token::Kind::word && name.size() <= longest_table_name &&
                       name.find_first_of(".:/%") == std::string::npos;
  if (!is_name) expected("a table's name, of at most 31 letters, digits, _ and -");
  ++at_;
  if (!take(">")) expected("> behind a table's name");
  return name;
}

void Parser::networks(std::vector<Network>& all) {
  list([&] { all.push_back(network()); });
}

void Parser::addresses(Endpoint& endpoint) {
  if (take("any")) return;
  if (here().kind == Token::Kind::mark && here().text == "<")
    endpoint.set = table_name();
  else
    networks(endpoint.networks);
}

Range Parser::range(std::string_view expected_here) {
  constexpr uint32_t most = 65535;
  const std::string operation = here().kind == Token::Kind::mark ? here().text : std::string();
  if (operation == "<" || operation == "<=" || operation == ">" || operation == ">=") {
    ++at_;
    const std::optional<uint32_t> limit = here().kind == Token::Kind::word ? number(here().text, most) : std::nullopt;
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
  const std::optional<uint32_t> first = number(text.substr(0, dash), most);
  const std::optional<uint32_t> last = dash == std::string_view::npos ? first : number(text.substr(dash + 1), most);
  if (!first || !last) expected(expected_here);
  if (*first > *last)
    fail("the range " + std::string(text) + " is reversed: write " + std::to_string(*last) + "-" +
         std::to_string(*first));
  ++at_;
  return {.first = static_cast<uint16_t>(*first), .last = static_cast<uint16_t>(*last)};
}

void Parser::ranges(std::vector<Range>& all, std::string_view expected_here) {
  list([&] { all.push_back(range(expected_here)); });
}

uint8_t Parser::protocol() {
  constexpr uint32_t most = 255;
  const bool is_word = here().kind == Token::Kind::word;
  if (is_word) {
    if (const std::optional<uint8_t> known = protocol_number(here().text)) {
      ++at_;
      return *known;
    }
    if (const std::optional<uint32_t> given = number(here().text, most)) {
      ++at_;
      return static_cast<uint8_t>(*given);
    }
  }
  expected("a protocol (tcp, udp, icmp, icmp6, sctp, ... or 0 to 255)");
}

void Parser::protocols(Rule& rule) {
  list([&] { rule.protocols.push_back(protocol()); });
}

void Parser::flags(Rule& rule) {
  const std::string text = here().text;
  const size_t slash = text.find('/');
  if (here().kind != Token::Kind::word || slash == std::string::npos) expected("flags as SET/MASK (S/SA, /R)");
  const std::optional<uint8_t> set = tcp_flags_number(std::string_view(text).substr(0, slash));
  const std::optional<uint8_t> mask = tcp_flags_number(std::string_view(text).substr(slash + 1));
  if (!set || !mask || *mask == 0) expected("flags as SET/MASK (S/SA, /R) of the letters F S R P A U E W");
  rule.tcp_flags = TcpFlags{.set = *set, .mask = *mask};
  ++at_;
}

void Parser::icmp_types(Rule& rule) {
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

void Parser::endpoint(Endpoint& endpoint) {
  refuse_second(endpoint, "source or destination");
  if (here().text != "port") addresses(endpoint);
  if (take("port")) ranges(endpoint.ports, a_port);
}

// One of what may follow the action, in any order.
void Parser::clause(Rule& rule) {
  if (here().text == "primary" || here().text == "peer") {
    if (rule.side) fail("the side is given twice");
    rule.side = here().text == "peer" ? Side::peer : Side::primary;
    ++at_;
  } else if (here().text == "ip" || here().text == "inet" || here().text == "ip6" || here().text == "inet6" ||
             here().text == "arp") {
    if (rule.family) fail("the family is given twice");
    rule.family = Family::ipv4;
    if (here().text == "arp") rule.family = Family::arp;
    if (here().text == "ip6" || here().text == "inet6") rule.family = Family::ipv6;
    ++at_;
  } else if (take("from")) {
    endpoint(rule.from);
  } else if (take("to")) {
    endpoint(rule.to);
  } else if (take("flags")) {
    if (rule.tcp_flags) fail("the flags are given twice");
    flags(rule);
  } else if (take("icmp-type") || take("icmp6-type")) {
    refuse_second(rule.icmp_types, "icmp-type");
    icmp_types(rule);
    if (take("code")) {
      const std::optional<uint32_t> code = number(here().text, 255);
      if (!code || here().kind != Token::Kind::word) expected("a code (0 to 255)");
      rule.icmp_code = static_cast<uint8_t>(*code);
      ++at_;
    }
  } else if (take("length")) {
    refuse_second(rule.lengths, "length");
    ranges(rule.lengths, a_length);
  } else if (take("fragment")) {
    if (rule.fragment) fail("fragment is given twice");
    rule.fragment = Fragment::any;
    if (take("first"))
      rule.fragment = Fragment::first;
    else if (take("later"))
      rule.fragment = Fragment::later;
  } else if (take("label")) {
    refuse_second(rule.label, "label");
    if (here().kind != Token::Kind::string || here().text.empty()) expected("a text in quotation marks");
    rule.label = here().text;
    ++at_;
  } else if (take("proto") || protocol_number(here().text)) {
    refuse_second(rule.protocols, "protocol");
    protocols(rule);
  } else {
    expected(
        "primary, peer, ip, ip6, arp, a protocol (tcp, proto 47), from, to, flags, icmp-type, length, fragment or "
        "label");
  }
}

Rule Parser::rule() {
  const Token start = here();
  Rule rule;
  rule.line = start.line;
  if (take("drop") || take("block"))
    rule.action = Action::drop;
  else if (!take("pass"))
    expected("pass, drop, table or a variable (name = value)");
  while (here().kind != Token::Kind::end) {
    if (here().kind == Token::Kind::string || here().kind == Token::Kind::mark)
      expected("a word such as from, to, tcp or label");
    clause(rule);
  }
  at_ = 0;
  try {
    check(rule);
  } catch (const std::invalid_argument& error) {
    fail(error.what());
  }
  return rule;
}

void Parser::table(Sets& sets) {
  ++at_;
  const Token at = here();
  const std::string name = table_name();
  while (take("persist") || take("const")) {
  }
  if (here().text != "{") expected("the addresses of the table in braces");
  std::vector<Network> all;
  if (statement_[at_ + 1].text == "}")
    at_ += 2;  // an empty one is a set that is filled later
  else
    networks(all);
  finish();
  if (!sets.emplace(name, std::move(all)).second) tokens_.fail(at, "there is a table <" + name + "> already");
}

}  // namespace

Ruleset parse_ruleset(std::string_view text) {
  Tokens tokens(text);
  Ruleset ruleset;
  for (std::vector<Token> statement = tokens.next_statement(); !statement.empty();
       statement = tokens.next_statement()) {
    const Token start = statement.front();
    Parser parser(tokens, std::move(statement));
    if (parser.is_table()) {
      parser.table(ruleset.sets);
      continue;
    }
    Rule rule = parser.rule();
    for (const Endpoint* endpoint : {&rule.from, &rule.to}) {
      if (!endpoint->set.empty() && !ruleset.sets.contains(endpoint->set))
        tokens.fail(start, "there is no table <" + endpoint->set + "> above this line");
    }
    ruleset.rules.push_back(std::move(rule));
  }
  return ruleset;
}

Rule parse_rule(std::string_view text) {
  Tokens tokens(text);
  std::vector<Token> statement = tokens.next_statement();
  if (statement.empty()) tokens.fail({}, "expected a rule, not nothing");
  Parser parser(tokens, std::move(statement));
  Rule rule = parser.rule();
  const std::vector<Token> more = tokens.next_statement();
  if (!more.empty()) tokens.fail(more.front(), "expected one rule alone");
  rule.line = 0;
  return rule;
}

void set_field(Rule& rule, std::string_view field, std::string_view text) {
  Tokens tokens(text);
  std::vector<Token> statement = tokens.next_statement();
  if (statement.empty()) tokens.fail({}, "expected a value, not nothing");
  Parser parser(tokens, std::move(statement));
  if (field == "src")
    parser.addresses(rule.from);
  else if (field == "dst")
    parser.addresses(rule.to);
  else if (field == "protocol")
    parser.protocols(rule);
  else if (field == "src_port")
    parser.ranges(rule.from.ports, a_port);
  else if (field == "dst_port")
    parser.ranges(rule.to.ports, a_port);
  else if (field == "tcp_flags")
    parser.flags(rule);
  else if (field == "icmp_type")
    parser.icmp_types(rule);
  else if (field == "length")
    parser.ranges(rule.lengths, a_length);
  parser.finish();
}

std::vector<Network> parse_networks(std::string_view text) {
  Tokens tokens(text);
  std::vector<Network> all;
  for (std::vector<Token> statement = tokens.next_statement(); !statement.empty();
       statement = tokens.next_statement()) {
    Parser parser(tokens, std::move(statement));
    while (parser.here().kind != Token::Kind::end) parser.networks(all);
  }
  return all;
}

}  // namespace netkit_bpf::firewall
