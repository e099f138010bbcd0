// SPDX-License-Identifier: MIT
#include "base/bytes.hpp"

#include <array>
#include <bit>

namespace netkit_bpf {

// RFC 3629: the first byte has as many leading ones as there are bytes; no overlong encodings, no surrogates.
bool is_utf8(std::string_view text) noexcept {
  constexpr std::array<uint32_t, 5> least{0, 0, 0x80, 0x800, 0x10000};
  constexpr uint32_t first_surrogate = 0xd800, last_surrogate = 0xdfff, largest = 0x10ffff;
  for (size_t at = 0; at < text.size();) {
    const auto first = static_cast<uint8_t>(text[at]);
    const auto length = static_cast<size_t>(std::countl_one(first));
    if (length == 0) {
      ++at;
      continue;
    }
    if (length == 1 || length >= least.size() || length > text.size() - at) return false;
    uint32_t code = first & (0x7fU >> length);
    for (size_t i = 1; i < length; ++i) {
      const auto next = static_cast<uint8_t>(text[at + i]);
      if ((next & 0xc0U) != 0x80U) return false;
      code = code << 6U | (next & 0x3fU);
    }
    if (code < least[length] || code > largest || (code >= first_surrogate && code <= last_surrogate)) return false;
    at += length;
  }
  return true;
}

}  // namespace netkit_bpf
