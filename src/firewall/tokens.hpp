// SPDX-License-Identifier: MIT
// The words of a text of rules, with their places, and variables replaced by what stands for them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace netkit_bpf::firewall {

struct Token {
  enum class Kind : uint8_t { word, variable, string, mark, end };  // a mark is one of { } , < > = or <= >=

  Kind kind = Kind::end;
  std::string text;  // of a string and a variable what it says, without quotes and dollar sign
  uint32_t line = 1;
  uint32_t column = 1;
};

// what() names the place, shows the line and points at the column.
class SyntaxError : public std::invalid_argument {
 public:
  SyntaxError(const std::string& text, std::string what_is_wrong, uint32_t at_line, uint32_t at_column)
      : std::invalid_argument(text), problem(std::move(what_is_wrong)), line(at_line), column(at_column) {}

  std::string problem;  // without its place
  uint32_t line;
  uint32_t column;
};

// One statement after the other: the tokens of a line, or of several that braces hold together.
class Tokens {
 public:
  explicit Tokens(std::string_view text) : text_(text) {}

  // The next one that has tokens, and behind them an end; empty after the last.
  std::vector<Token> next_statement();

  // Throws SyntaxError.
  [[noreturn]] void fail(const Token& at, const std::string& problem) const;

 private:
  using Statement = std::vector<Token>;

  bool skip_space(bool within_braces);
  Token read_token();
  Token read_string();
  void expand(const Token& variable, Statement& statement) const;
  void define(Statement statement);
  void advance(size_t bytes);
  [[nodiscard]] bool is_at_end() const { return at_ >= text_.size(); }
  [[nodiscard]] char here() const { return text_[at_]; }

  std::string_view text_;
  size_t at_ = 0;
  uint32_t line_ = 1;
  uint32_t column_ = 1;
  std::map<std::string, Statement> variables_;
};

}  // namespace netkit_bpf::firewall
