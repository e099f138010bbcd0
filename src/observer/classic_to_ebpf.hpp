// SPDX-License-Identifier: MIT
// Classic BPF, as pcap-filter(7) expressions are compiled to, translated to eBPF.
//
// The kernel's own translation is only for socket filters. This one is for a program that returns its own verdict: a
// packet that is too short does not match, but does not end the program.
#pragma once

#include <linux/bpf.h>
#include <linux/filter.h>

#include <span>
#include <vector>

namespace netkit_bpf::classic {

// Throws std::invalid_argument if the program loads the kernel's metadata, which classic programs find at offsets from
// SKF_LL_OFF on. The text names the words of pcap-filter(7) that do so. They are meaningless at a hook: each packet is
// outbound there, and its device is already the receiving end.
void check_loads(std::span<const sock_filter> program);

// An eBPF program (SCHED_CLS) that runs `match` on the packets that the classic program accepts and `no_match` on all
// others. Both must end the program; the context is in R6.
//
// The packet is read as it is on the wire: a VLAN tag that the kernel keeps beside it is read at its place, and no load
// needs the packet to be linear. Throws std::invalid_argument for an invalid program, and what check_loads() throws.
std::vector<bpf_insn> translate(std::span<const sock_filter> program, std::span<const bpf_insn> match,
                                std::span<const bpf_insn> no_match);

}  // namespace netkit_bpf::classic
