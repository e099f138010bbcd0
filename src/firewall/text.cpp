// SPDX-License-Identifier: MIT
#include "firewall/text.hpp"

#include <string>
#include <utility>

#include "firewall/values.hpp"
#include "firewall/words.hpp"

namespace netkit_bpf::firewall {

namespace {

class Parser : public Values {
 public:
  using Values::Values;

  Rule rule();
  Packet packet(Side side);
  void table(Sets& sets);
  // At the place where it is named.
  [[noreturn]] void refuse_table(const std::string& name);
  [[nodiscard]] bool is_table() const { return here().text == "table" && here().kind == Token::Kind::word; }

 private:
  void endpoint(Endpoint& endpoint);
  void clauses(Rule& rule, bool is_packet);
  void clause(Rule& rule, bool is_packet);
  bool clause_of_rules(Rule& rule);
  template <typename Value>
  void refuse_second(const Value& value, std::string_view what) const {
    if (!(value == Value{})) fail("the " + std::string(what) + " is given twice");
  }
};

void Parser::endpoint(Endpoint& endpoint) {
  refuse_second(endpoint, "source or destination");
  if (here().text != "port") addresses(endpoint);
  if (take("port")) ranges(endpoint.ports, a_port);
}

// What says nothing of one packet; false where the next word begins something else.
bool Parser::clause_of_rules(Rule& rule) {
  if (here().text == "primary" || here().text == "peer") {
    if (rule.side) fail("the side is given twice");
    rule.side = here().text == "peer" ? Side::peer : Side::primary;
    skip();
  } else if (here().text == "log") {
    if (rule.log) fail("log is given twice");
    rule.log = true;
    skip();
  } else if (take("rate")) {
    if (rule.rate) fail("the rate is given twice");
    rate(rule);
  } else if (take("label")) {
    refuse_second(rule.label, "label");
    if (here().kind != Token::Kind::string || here().text.empty()) expected("a text in quotation marks");
    rule.label = here().text;
    skip();
  } else {
    return false;
  }
  return true;
}

// One of what may follow the action, in any order.
void Parser::clause(Rule& rule, bool is_packet) {
  if (!is_packet && clause_of_rules(rule)) return;
  if (here().text == "ip" || here().text == "inet" || here().text == "ip6" || here().text == "inet6" ||
      here().text == "arp") {
    if (rule.family) fail("the family is given twice");
    rule.family = Family::ipv4;
    if (here().text == "arp") rule.family = Family::arp;
    if (here().text == "ip6" || here().text == "inet6") rule.family = Family::ipv6;
    skip();
  } else if (take("from")) {
    endpoint(rule.from);
  } else if (take("to")) {
    endpoint(rule.to);
  } else if (take("flags")) {
    if (rule.tcp_flags) fail("the flags are given twice");
    flags(rule, is_packet);
  } else if (take("icmp-type") || take("icmp6-type")) {
    refuse_second(rule.icmp_types, "icmp-type");
    icmp_types(rule);
    if (take("code")) {
      const std::optional<uint32_t> code = number(255);
      if (!code) expected("a code (0 to 255)");
      rule.icmp_code = static_cast<uint8_t>(*code);
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
  } else if (take("proto") || protocol_number(here().text)) {
    refuse_second(rule.protocols, "protocol");
    protocols(rule);
  } else {
    const std::string both = "ip, ip6, arp, a protocol (tcp, proto 47), from, to, flags, icmp-type, length";
    expected(is_packet ? both + " or fragment" : "primary, peer, log, " + both + ", fragment, rate or label");
  }
}

void Parser::clauses(Rule& rule, bool is_packet) {
  while (here().kind != Token::Kind::end) {
    if (here().kind == Token::Kind::string || here().kind == Token::Kind::mark)
      expected(is_packet ? "a word such as from, to or tcp" : "a word such as from, to, tcp or label");
    clause(rule, is_packet);
  }
  rewind();
  try {
    check(rule);
  } catch (const std::invalid_argument& error) {
    fail(error.what());
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
  clauses(rule, false);
  return rule;
}

Packet Parser::packet(Side side) {
  Rule rule;
  clauses(rule, true);
  try {
    return packet_of(rule, side);
  } catch (const std::invalid_argument& error) {
    fail(error.what());
  }
}

void Parser::table(Sets& sets) {
  skip();
  const Token at = here();
  const std::string name = table_name();
  while (take("persist") || take("const")) {
  }
  if (here().text != "{") expected("the addresses of the table in braces");
  std::vector<Network> all;
  if (next().text == "}") {  // an empty one is a set that is filled later
    skip();
    skip();
  } else {
    networks(all);
  }
  finish();
  if (!sets.emplace(name, std::move(all)).second) fail(at, "there is a table <" + name + "> already");
}

void Parser::refuse_table(const std::string& name) {
  rewind();
  while (here().kind != Token::Kind::end &&
         (here().kind != Token::Kind::mark || here().text != "<" || next().text != name))
    skip();
  fail("there is no table <" + name + "> above this line");
}

// What `read` makes of the only statement of a text; `what` it is.
template <typename Read>
auto parse_alone(std::string_view text, const std::string& what, const Read& read) {
  Tokens tokens(text);
  std::vector<Token> statement = tokens.next_statement();
  if (statement.empty()) tokens.fail({}, "expected a " + what + ", not nothing");
  Parser parser(tokens, std::move(statement));
  auto result = read(parser);
  const std::vector<Token> more = tokens.next_statement();
  if (!more.empty()) tokens.fail(more.front(), "expected one " + what + " alone");
  return result;
}

}  // namespace

Ruleset parse_ruleset(std::string_view text) {
  Tokens tokens(text);
  Ruleset ruleset;
  for (std::vector<Token> statement = tokens.next_statement(); !statement.empty();
       statement = tokens.next_statement()) {
    Parser parser(tokens, std::move(statement));
    if (parser.is_table()) {
      parser.table(ruleset.sets);
      continue;
    }
    Rule rule = parser.rule();
    for (const Endpoint* endpoint : {&rule.from, &rule.to}) {
      if (!endpoint->set.empty() && !ruleset.sets.contains(endpoint->set)) parser.refuse_table(endpoint->set);
    }
    ruleset.rules.push_back(std::move(rule));
  }
  return ruleset;
}

Rule parse_rule(std::string_view text) {
  Rule rule = parse_alone(text, "rule", [](Parser& parser) { return parser.rule(); });
  rule.line = 0;
  return rule;
}

Packet parse_packet(std::string_view text, Side side) {
  return parse_alone(text, "packet", [side](Parser& parser) { return parser.packet(side); });
}

void set_field(Rule& rule, std::string_view field, std::string_view text) {
  Tokens tokens(text);
  std::vector<Token> statement = tokens.next_statement();
  if (statement.empty()) tokens.fail({}, "expected a value, not nothing");
  Values parser(tokens, std::move(statement));
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
  else if (field == "rate")
    parser.rate(rule);
  parser.finish();
}

std::vector<Network> parse_networks(std::string_view text) {
  Tokens tokens(text);
  std::vector<Network> all;
  for (std::vector<Token> statement = tokens.next_statement(); !statement.empty();
       statement = tokens.next_statement()) {
    Values parser(tokens, std::move(statement));
    while (parser.here().kind != Token::Kind::end) parser.networks(all);
  }
  return all;
}

}  // namespace netkit_bpf::firewall
