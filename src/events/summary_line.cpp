// SPDX-License-Identifier: MIT
// Written by hand, because inet_ntop() and snprintf() take ten times as long, and every packet gets a line.
#include "events/summary_line.hpp"

#include <linux/if_ether.h>

#include <array>
#include <bit>
#include <charconv>

#include "base/side.hpp"

namespace netkit_bpf {

SummaryLine& SummaryLine::decimal(uint32_t value) {
  end_ = std::to_chars(end_, buffer_.data() + buffer_.size(), value).ptr;
  return *this;
}

SummaryLine& SummaryLine::hex(uint16_t value) {
  constexpr std::string_view digits = "0123456789abcdef";
  if (value > 0xfff) *end_++ = digits[value >> 12];
  if (value > 0xff) *end_++ = digits[value >> 8 & 0xf];
  if (value > 0xf) *end_++ = digits[value >> 4 & 0xf];
  *end_++ = digits[value & 0xf];
  return *this;
}

namespace {

bool is_ipv4(const nk_event& event) { return event.ip_word >> 28 == 4; }

void write_ipv4(SummaryLine& line, const __u8* bytes) {
  line.decimal(bytes[0]) << '.';
  line.decimal(bytes[1]) << '.';
  line.decimal(bytes[2]) << '.';
  line.decimal(bytes[3]);
}

using Words = std::array<uint16_t, 8>;

// The words from `start` on that "::" replaces: the first of the longest runs of two or more zero words.
struct ZeroRun {
  size_t start = 8;
  size_t length = 0;
};

ZeroRun longest_zero_run(const Words& words) {
  uint32_t zeros = 0;  // a bit a word
  for (size_t i = 0; i < words.size(); ++i) zeros |= uint32_t{words[i] == 0} << i;
  ZeroRun best;
  for (uint32_t starts = zeros & zeros >> 1; starts != 0; starts &= zeros >> best.length)
    best = {static_cast<size_t>(std::countr_zero(starts)), best.length == 0 ? 2 : best.length + 1};
  return best;
}

// RFC 5952; like inet_ntop(), with a dotted end if the address contains an IPv4 address.
void write_ipv6(SummaryLine& line, const __u8* bytes) {
  Words words;
  for (size_t i = 0; i < words.size(); ++i) words[i] = static_cast<uint16_t>(bytes[2 * i] << 8 | bytes[2 * i + 1]);
  const ZeroRun zeros = longest_zero_run(words);
  const bool embeds_ipv4 = zeros.start == 0 && (zeros.length == 6 || (zeros.length == 5 && words[5] == 0xffff));
  for (size_t i = 0; i < words.size(); ++i) {
    if (i == zeros.start) {
      line << "::";
      i += zeros.length - 1;
      continue;
    }
    if (i != 0 && i != zeros.start + zeros.length) line << ':';
    if (i == 6 && embeds_ipv4) {
      write_ipv4(line, bytes + 12);
      return;
    }
    line.hex(words[i]);
  }
}

void write_address(SummaryLine& line, const nk_event& event, const __u8* bytes) {
  if (is_ipv4(event))
    write_ipv4(line, bytes);
  else
    write_ipv6(line, bytes);
}

}  // namespace

std::string format_address(const nk_event& event, const __u8 (&address)[16]) {
  SummaryLine line;
  write_address(line, event, &address[0]);
  return std::string(line.view());
}

void write_summary(const nk_event& event, SummaryLine& line) {
  line << '[' << name_of(static_cast<Side>(event.side)) << "] ";
  if ((event.flags & NK_IP) != 0) {
    line << (is_ipv4(event) ? "IPv4: " : "IPv6: ");
    write_address(line, event, &event.src[0]);
    line << " -> ";
    write_address(line, event, &event.dst[0]);
    line << " | next=";
    line.decimal(event.next_header) << " len=";
    line.decimal(event.payload_len) << " ttl=";
    line.decimal(event.hop_limit);
    return;
  }
  line << "Ethernet: " << (event.ethertype == ETH_P_ARP ? "ARP (0x" : "0x");
  for (int shift = 12; shift >= 0; shift -= 4) line.hex(event.ethertype >> shift & 0xf);
  line << (event.ethertype == ETH_P_ARP ? ") | len=" : " | len=");
  line.decimal(event.length);
}

}  // namespace netkit_bpf
