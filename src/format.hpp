// SPDX-License-Identifier: MIT
// A packet event as a line of text.
#pragma once

#include <string>

#include "../bpf/event.h"

namespace netkit_bpf {

// An address of the event, of its family; the record says which.
std::string format_address(const nk_event& event, const __u8 (&address)[16]);

// "[peer] IPv6: fd00::2 -> fd00::1 | next=58 len=64 ttl=64", "[peer] Ethernet: ARP (0x0806) | len=42" or
// "[peer] Ethernet: 0x88cc | len=60".
std::string format_line(const nk_event& event);

}  // namespace netkit_bpf
