// SPDX-License-Identifier: MIT
// By hand: inet_ntop() and snprintf() take ten times as long, and a line is written for every packet.
#include "format.hpp"

#include <linux/if_ether.h>

#include <array>
#include <charconv>
#include <cstring>
#include <string_view>

#include "hook.hpp"

namespace netkit_bpf {

namespace {

constexpr size_t longest_line = 192;

// Text that grows in a buffer which is large enough for every line.
class Writer {
 public:
  Writer& operator<<(std::string_view text) {
    std::memcpy(end_, text.data(), text.size());
    end_ += text.size();
    return *this;
  }
  Writer& operator<<(char character) {
    *end_++ = character;
    return *this;
  }
  Writer& number(uint32_t value, int base = 10) {
    end_ = std::to_chars(end_, buffer_.data() + buffer_.size(), value, base).ptr;
    return *this;
  }
  [[nodiscard]] std::string text() const {
    return std::string(buffer_.data(), static_cast<size_t>(end_ - buffer_.data()));
  }

 private:
  std::array<char, longest_line> buffer_;
  char* end_ = buffer_.data();
};

bool is_ipv4(const nk_event& event) { return event.ip_word >> 28 == 4; }

void write_ipv4(Writer& writer, const __u8* bytes) {
  writer.number(bytes[0]) << '.';
  writer.number(bytes[1]) << '.';
  writer.number(bytes[2]) << '.';
  writer.number(bytes[3]);
}

// The words from `start` on for which "::" stands: the first of the longest runs of two zero words or more.
struct ZeroRun {
  size_t start = 8;
  size_t length = 1;
};

ZeroRun longest_zero_run(const std::array<uint16_t, 8>& words) {
  ZeroRun best;
  for (size_t i = 0; i < words.size();) {
    size_t end = i;
    while (end < words.size() && words.at(end) == 0) ++end;
    if (end - i > best.length) best = {i, end - i};
    i = end + 1;
  }
  return best;
}

// RFC 5952, and like inet_ntop() with a dotted end where the address holds one of IPv4.
void write_ipv6(Writer& writer, const __u8* bytes) {
  std::array<uint16_t, 8> words{};
  for (size_t i = 0; i < words.size(); ++i) words.at(i) = static_cast<uint16_t>(bytes[2 * i] << 8 | bytes[2 * i + 1]);
  const ZeroRun zeros = longest_zero_run(words);
  const bool embeds_ipv4 = zeros.start == 0 && (zeros.length == 6 || (zeros.length == 5 && words[5] == 0xffff));
  for (size_t i = 0; i < words.size(); ++i) {
    if (i == zeros.start) {
      writer << "::";
      i += zeros.length - 1;
      continue;
    }
    if (i != 0 && i != zeros.start + zeros.length) writer << ':';
    if (i == 6 && embeds_ipv4) {
      write_ipv4(writer, bytes + 12);
      return;
    }
    writer.number(words.at(i), 16);
  }
}

void write_address(Writer& writer, const nk_event& event, const __u8* bytes) {
  if (is_ipv4(event))
    write_ipv4(writer, bytes);
  else
    write_ipv6(writer, bytes);
}

}  // namespace

std::string format_address(const nk_event& event, const __u8 (&address)[16]) {
  Writer writer;
  write_address(writer, event, &address[0]);
  return writer.text();
}

std::string format_line(const nk_event& event) {
  Writer writer;
  writer << '[' << name_of(static_cast<Side>(event.side)) << "] ";
  if ((event.flags & NK_IP) != 0) {
    writer << (is_ipv4(event) ? "IPv4: " : "IPv6: ");
    write_address(writer, event, &event.src[0]);
    writer << " -> ";
    write_address(writer, event, &event.dst[0]);
    writer << " | next=";
    writer.number(event.next_header) << " len=";
    writer.number(event.payload_len) << " ttl=";
    writer.number(event.hop_limit);
    return writer.text();
  }
  writer << "Ethernet: " << (event.ethertype == ETH_P_ARP ? "ARP (0x" : "0x");
  for (unsigned shift = 16; shift > 0;) {
    shift -= 4;
    writer.number(event.ethertype >> shift & 0xf, 16);
  }
  writer << (event.ethertype == ETH_P_ARP ? ") | len=" : " | len=");
  writer.number(event.length);
  return writer.text();
}

}  // namespace netkit_bpf
