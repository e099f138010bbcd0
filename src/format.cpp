// SPDX-License-Identifier: MIT
#include "format.hpp"

#include <arpa/inet.h>
#include <linux/if_ether.h>

#include <array>
#include <cstdio>

#include "hook.hpp"

namespace netkit_bpf {

namespace {

bool is_ipv4(const nk_event& event) { return event.ip_word >> 28 == 4; }

}  // namespace

std::string format_address(const nk_event& event, const __u8 (&address)[16]) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  ::inet_ntop(is_ipv4(event) ? AF_INET : AF_INET6, &address[0], text.data(), text.size());
  return text.data();
}

std::string format_line(const nk_event& event) {
  const char* side = name_of(static_cast<Side>(event.side));
  std::array<char, 192> line{};
  if ((event.flags & NK_IP) != 0) {
    std::snprintf(line.data(), line.size(), "[%s] IPv%c: %s -> %s | next=%u len=%u ttl=%u", side,
                  is_ipv4(event) ? '4' : '6', format_address(event, event.src).c_str(),
                  format_address(event, event.dst).c_str(), unsigned{event.next_header}, event.payload_len,
                  unsigned{event.hop_limit});
  } else {
    const bool is_arp = event.ethertype == ETH_P_ARP;
    std::snprintf(line.data(), line.size(),
                  is_arp ? "[%s] Ethernet: ARP (0x%04x) | len=%u" : "[%s] Ethernet: 0x%04x | len=%u", side,
                  unsigned{event.ethertype}, event.length);
  }
  return line.data();
}

}  // namespace netkit_bpf
