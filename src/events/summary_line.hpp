// SPDX-License-Identifier: MIT
// A packet event as a line of text.
#pragma once

#include <netkit_bpf/event.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace netkit_bpf {

// Text that grows in a buffer which is large enough for every line.
class SummaryLine {
 public:
  SummaryLine& operator<<(std::string_view text) {
    std::memcpy(end_, text.data(), text.size());
    end_ += text.size();
    return *this;
  }
  SummaryLine& operator<<(char character) {
    *end_++ = character;
    return *this;
  }
  SummaryLine& decimal(uint32_t value);
  SummaryLine& hex(uint16_t value);  // without leading zeros

  [[nodiscard]] std::string_view view() const { return {buffer_.data(), static_cast<size_t>(end_ - buffer_.data())}; }

  SummaryLine() = default;
  SummaryLine(const SummaryLine&) = delete;
  SummaryLine& operator=(const SummaryLine&) = delete;

 private:
  std::array<char, 192> buffer_;
  char* end_ = buffer_.data();
};

// An address of the event, of its family; the record says which.
std::string format_address(const nk_event& event, const __u8 (&address)[16]);

// Adds "[peer] IPv6: fd00::2 -> fd00::1 | next=58 len=64 ttl=64", "[peer] Ethernet: ARP (0x0806) | len=42" or
// "[peer] Ethernet: 0x88cc | len=60".
void write_summary(const nk_event& event, SummaryLine& line);

}  // namespace netkit_bpf
