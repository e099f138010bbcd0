// SPDX-License-Identifier: MIT
// Classic BPF, as pcap-filter(7) expressions are compiled to, translated to eBPF.
//
// The kernel's own translation is for socket filters alone. This one is for a program that has a verdict of its own to
// give: a packet that is too short does not end the program but does not match.
#pragma once

#include <linux/bpf.h>
#include <linux/filter.h>

#include <span>
#include <vector>

namespace netkit_bpf::classic {

// Throws std::invalid_argument if the program loads what is no byte of a packet: the kernel's metadata, which classic
// programs find at offsets from SKF_LL_OFF on. It says which words of pcap-filter(7) do so. At a hook these have no
// meaning to a user: each packet is outbound there, and its device is already the receiving end's.
void check_loads(std::span<const sock_filter> program);

// An eBPF program (SCHED_CLS) that runs `match` on the packets that the classic program accepts and `no_match` on all
// others. Both end the program, and find the context in R6.
//
// The packet is read as it is on the wire: a VLAN tag that the kernel keeps beside it stands at its place, and no load
// needs the packet to be linear. Throws std::invalid_argument for what is no valid program, and what check_loads()
// does.
std::vector<bpf_insn> translate(std::span<const sock_filter> program, std::span<const bpf_insn> match,
                                std::span<const bpf_insn> no_match);

}  // namespace netkit_bpf::classic
