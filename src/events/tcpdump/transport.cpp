// SPDX-License-Identifier: MIT
#include "events/tcpdump/transport.hpp"

#include <algorithm>

#include "events/summary_line.hpp"
#include "events/text.hpp"

namespace netkit_bpf {

std::optional<uint32_t> number_at(Bytes bytes, size_t offset, size_t size) {
  if (!fits(offset, size, bytes.size())) return std::nullopt;
  uint32_t number = 0;
  for (const uint8_t byte : bytes.subspan(offset, size)) number = number << 8 | byte;
  return number;
}

void append_address_at(std::string& out, Bytes bytes, size_t offset, int family) {
  const size_t size = family == 4 ? 4 : 16;
  if (!fits(offset, size, bytes.size())) return;
  nk_event event{};
  event.ip_word = static_cast<uint32_t>(family) << 28;
  std::ranges::copy(bytes.subspan(offset, size), &event.src[0]);
  out += format_address(event, event.src);
}

void append_length(std::string& out, std::optional<uint32_t> length) {
  if (!length) return;
  out += ", length ";
  append_decimal(out, *length);
}

}  // namespace netkit_bpf
