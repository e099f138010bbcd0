// SPDX-License-Identifier: MIT
// What stands for the values of a rule, and where one is in the words of a statement.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "firewall/rule.hpp"
#include "firewall/tokens.hpp"

namespace netkit_bpf::firewall {

constexpr std::string_view a_port = "a port (0 to 65535) or a range of them (80-90)";
constexpr std::string_view a_length = "a length (0 to 65535) or a range of them (0-1280)";

// Each reads what it is named after, from the next word on. All throw SyntaxError.
class Values {
 public:
  Values(const Tokens& tokens, std::vector<Token> statement) : tokens_(tokens), statement_(std::move(statement)) {}

  void addresses(Endpoint& endpoint);
  void networks(std::vector<Network>& all);
  void ranges(std::vector<Range>& all, std::string_view expected);
  void protocols(Rule& rule);
  // With or without a mask.
  void flags(Rule& rule, bool are_all = false);
  void icmp_types(Rule& rule);
  void rate(Rule& rule);
  std::string table_name();
  // A number to `most`; nothing, and no step forward, where there is none.
  std::optional<uint32_t> number(uint32_t most);

  // Goes on if this is the next word.
  bool take(std::string_view text) {
    const bool is_here = here().text == text && here().kind != Token::Kind::string && here().kind != Token::Kind::end;
    if (is_here) skip();
    return is_here;
  }
  void skip() { ++at_; }
  void rewind() { at_ = 0; }
  [[nodiscard]] const Token& here() const { return statement_[at_]; }
  [[nodiscard]] const Token& next() const { return statement_[at_ + 1]; }
  void finish() const {
    if (here().kind != Token::Kind::end) expected("the end");
  }

  [[noreturn]] void expected(std::string_view what) const;
  [[noreturn]] void fail(const std::string& problem) const { tokens_.fail(here(), problem); }
  [[noreturn]] void fail(const Token& at, const std::string& problem) const { tokens_.fail(at, problem); }

 private:
  // An item, or several in braces.
  template <typename Item>
  void list(const Item& item);
  Network network();
  Range range(std::string_view expected);
  uint8_t protocol();

  const Tokens& tokens_;
  std::vector<Token> statement_;
  size_t at_ = 0;
};

}  // namespace netkit_bpf::firewall
