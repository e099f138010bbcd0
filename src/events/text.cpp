// SPDX-License-Identifier: MIT
#include "events/text.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <string_view>

namespace netkit_bpf {

namespace {

constexpr size_t bytes_a_line = 16;
constexpr size_t hex_columns = 40;  // of a whole line: eight groups

void append_number(std::string& out, uint64_t value, size_t width, int base) {
  std::array<char, 20> digits{};
  const char* end = std::to_chars(digits.data(), digits.data() + digits.size(), value, base).ptr;
  const auto length = static_cast<size_t>(end - digits.data());
  if (length < width) out.append(width - length, '0');
  out.append(digits.data(), length);
}

bool is_graphic(uint8_t byte) { return byte > 0x20 && byte < 0x7f; }

}  // namespace

void append_decimal(std::string& out, uint64_t value, size_t width) { append_number(out, value, width, 10); }
void append_hex(std::string& out, uint64_t value, size_t width) { append_number(out, value, width, 16); }

void append_mac(std::string& out, Bytes six) {
  for (const uint8_t& byte : six) {
    if (&byte != six.data()) out += ':';
    append_hex(out, byte, 2);
  }
}

void append_hexdump(std::string& out, Bytes bytes, bool with_characters) {
  for (size_t start = 0; start < bytes.size(); start += bytes_a_line) {
    const Bytes line = bytes.subspan(start, std::min(bytes_a_line, bytes.size() - start));
    out += "\n\t0x";
    append_hex(out, start, 4);
    out += ": ";
    const size_t first_column = out.size();
    for (size_t i = 0; i < line.size(); ++i) {
      if (i % 2 == 0) out += ' ';
      append_hex(out, line[i], 2);
    }
    if (!with_characters) continue;
    out.append(hex_columns - (out.size() - first_column), ' ');
    out += "  ";
    for (const uint8_t byte : line) out += is_graphic(byte) ? static_cast<char>(byte) : '.';
  }
}

void append_characters(std::string& out, Bytes bytes) {
  out += '\n';
  for (size_t i = 0; i < bytes.size(); ++i) {
    const uint8_t byte = bytes[i];
    if (byte == '\r') {
      if (i + 1 < bytes.size() && bytes[i + 1] != '\n') out += '.';
    } else {
      const bool as_it_is =
          is_graphic(byte) || std::string_view("\t \n").find(static_cast<char>(byte)) != std::string_view::npos;
      out += as_it_is ? static_cast<char>(byte) : '.';
    }
  }
}

}  // namespace netkit_bpf
