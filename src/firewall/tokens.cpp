// SPDX-License-Identifier: MIT
#include "firewall/tokens.hpp"

#include <algorithm>
#include <utility>

namespace netkit_bpf::firewall {

namespace {

// Variables in variables could grow without end.
constexpr size_t most_tokens = 4 << 20;
constexpr size_t usual_tokens = 16;
constexpr size_t longest_shown = 100;  // bytes of a line in an error

bool is_word(char letter) {
  return (letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z') || (letter >= '0' && letter <= '9') ||
         letter == '_' || letter == '.' || letter == ':' || letter == '/' || letter == '-' || letter == '%';
}

bool is_control(char letter) { return static_cast<unsigned char>(letter) < 0x20 || letter == 0x7f; }

bool continues_character(char letter) { return (static_cast<unsigned char>(letter) & 0xc0U) == 0x80; }  // UTF-8

std::string shown(std::string_view text) {
  std::string safe;
  for (const char letter : text) safe += is_control(letter) ? ' ' : letter;
  return safe;
}

}  // namespace

void Tokens::fail(const Token& at, const std::string& problem) const {
  size_t start = 0;
  for (uint32_t line = 1; line < at.line; ++line) start = text_.find('\n', start) + 1;
  std::string_view line = text_.substr(start, text_.find('\n', start) - start);
  std::string message = "line " + std::to_string(at.line) + ", column " + std::to_string(at.column) + ": " + problem;
  if (line.size() <= longest_shown)
    message += "\n    " + shown(line) + "\n    " + std::string(at.column - 1, ' ') + "^";
  throw SyntaxError(message, problem, at.line, at.column);
}

void Tokens::advance(size_t bytes) {
  for (const size_t stop = at_ + bytes; at_ < stop; ++at_) {
    if (here() == '\n') {
      ++line_;
      column_ = 1;
    } else if (!continues_character(here())) {
      ++column_;
    }
  }
}

// False at the end of a statement, which it leaves behind.
bool Tokens::skip_space(bool within_braces) {
  while (!is_at_end()) {
    if (here() == '#') {
      advance(std::min(text_.find('\n', at_), text_.size()) - at_);
    } else if (here() == '\n') {
      advance(1);
      if (!within_braces) return false;
    } else if (here() == ' ' || here() == '\t' || here() == '\r') {
      advance(1);
    } else {
      return true;
    }
  }
  return false;
}

Token Tokens::read_string() {
  Token token{.kind = Token::Kind::string, .text = {}, .line = line_, .column = column_};
  advance(1);
  while (!is_at_end() && here() != '"' && here() != '\n') {
    if (here() == '\\' && at_ + 1 < text_.size() && (text_[at_ + 1] == '"' || text_[at_ + 1] == '\\')) advance(1);
    if (is_control(here())) fail({.text = {}, .line = line_, .column = column_}, "a label has no control characters");
    token.text += here();
    advance(1);
  }
  if (is_at_end() || here() != '"') fail(token, "expected a quotation mark at the end of this text");
  advance(1);
  return token;
}

Token Tokens::read_token() {
  Token token{.kind = Token::Kind::word, .text = {}, .line = line_, .column = column_};
  if (here() == '"') return read_string();
  if (here() == '$') {
    token.kind = Token::Kind::variable;
    advance(1);
  }
  size_t size = 0;
  while (at_ + size < text_.size() && is_word(text_[at_ + size])) ++size;
  if (size == 0 && token.kind == Token::Kind::variable) fail(token, "expected the name of a variable behind $");
  if (size == 0) {
    token.kind = Token::Kind::mark;
    if (std::string_view("{},<>=").find(here()) == std::string_view::npos) {
      size_t bytes = 1;
      while (at_ + bytes < text_.size() && continues_character(text_[at_ + bytes])) ++bytes;
      const std::string letter = is_control(here()) ? "a control character" : std::string(text_.substr(at_, bytes));
      fail(token, "expected a word, not " + letter);
    }
    const bool is_pair = at_ + 1 < text_.size() && (here() == '<' || here() == '>') && text_[at_ + 1] == '=';
    size = is_pair ? 2 : 1;
  }
  token.text = text_.substr(at_, size);
  advance(size);
  return token;
}

void Tokens::expand(const Token& variable, Statement& statement) const {
  const auto found = variables_.find(variable.text);
  if (found == variables_.end()) fail(variable, "there is no variable $" + variable.text + " above this line");
  if (statement.size() + found->second.size() > most_tokens) fail(variable, "this line is too long");
  for (const Token& each : found->second)  // errors point at where the variable stands
    statement.push_back({each.kind, each.text, variable.line, variable.column});
}

// NAME = VALUE
void Tokens::define(Statement statement) {
  const Token name = statement.front();
  if (statement.size() == 2) fail(statement.back(), "expected a value for the variable");
  statement.erase(statement.begin(), statement.begin() + 2);
  if (!variables_.emplace(name.text, std::move(statement)).second)
    fail(name, "the variable $" + name.text + " has a value already");
}

std::vector<Token> Tokens::next_statement() {
  while (!is_at_end()) {
    Statement statement;
    statement.reserve(usual_tokens);
    int depth = 0;
    const auto defines = [&] { return statement.size() == 2 && statement[1].text == "="; };
    bool is_definition = false;
    while (skip_space(depth > 0)) {
      Token token = read_token();
      if (token.kind == Token::Kind::mark && token.text == "{") ++depth;
      if (token.kind == Token::Kind::mark && token.text == "}") --depth;
      if (depth < 0) fail(token, "there is no { to this }");
      const bool is_name = statement.empty();  // of a variable that gets its value
      if (token.kind == Token::Kind::variable && !is_name)
        expand(token, statement);
      else
        statement.push_back(std::move(token));
      is_definition = is_definition || defines();
      if (statement.size() > most_tokens) fail(statement.back(), "this line is too long");
    }
    if (depth > 0) {
      const auto brace = std::ranges::find_if(statement, [](const Token& each) { return each.text == "{"; });
      fail(*brace, "there is no } to this {");
    }
    if (statement.empty()) continue;
    if (is_definition) {
      define(std::move(statement));
      continue;
    }
    if (statement.front().kind == Token::Kind::variable) {
      const Token first = statement.front();
      Statement expanded;
      expand(first, expanded);
      expanded.insert(expanded.end(), statement.begin() + 1, statement.end());
      statement = std::move(expanded);
    }
    const Token& last = statement.back();
    statement.push_back({.kind = Token::Kind::end,
                         .text = {},
                         .line = last.line,
                         .column = last.column + static_cast<uint32_t>(last.text.size())});
    return statement;
  }
  return {};
}

}  // namespace netkit_bpf::firewall
