/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * How a ruleset lies in the one value that bpf/firewall.bpf.c looks packets up in. src/firewall/compiler.cpp writes it.
 *
 * Each property of a packet (its addresses, ports, what kind of packet it is) is looked up alone and gives a row: a bit
 * for each rule that this property does not speak against. Rows begin with summary words, a bit for each word of rules
 * that is not zero. The first bit that all rows of a packet have in common is the rule that decides.
 */
#ifndef NETKIT_BPF_FIREWALL_H
#define NETKIT_BPF_FIREWALL_H

#include <linux/types.h>

enum nk_family {
	NK_OTHER = 0,		/* neither IP nor ARP, or an IP header that is cut */
	NK_IPV4 = 1,
	NK_IPV6 = 2,
	NK_ARP = 3,
	NK_FAMILIES = 4,
};

enum nk_fragment {
	NK_WHOLE = 0,
	NK_FIRST = 1,
	NK_LATER = 2,		/* in which no ports are */
	NK_FRAGMENTS = 3,
};

#define NK_FW_SIDES 2
#define NK_FW_HIDDEN 256	/* the protocol of a packet in which it cannot be told */
#define NK_FW_PROTOCOLS 257
#define NK_FW_ABSENT 65536	/* a number that the packet does not have */
#define NK_FW_STEPS 20		/* of the search among the boundaries of one root entry: 2^20 of them */
#define NK_FW_POSITION 27	/* bits of a root entry that say where its boundaries begin; the rest is how many steps */
#define NK_FW_MAX_SIZE (1 << 28)	/* bytes; a verifier follows offsets below 2^29 (BPF_MAX_VAR_OFF) */

/* All of these are offsets in bytes, unless they say otherwise. A row is named by its offset in words of 8 bytes. */

/* The addresses of one family. */
struct nk_fw_addresses {
	__u32 root;		/* __u32[65536], by the first 16 bits; 0: none of them is told from the others */
	__u32 bounds;		/* IPv4: __u16[], the other 16 bits; IPv6: struct nk_fw_bound[] */
	__u32 rows;		/* __u32[], the row of the addresses from each boundary on; without a root, that row */
};

struct nk_fw_bound {
	__u64 high, low;	/* host byte order */
};

/* A number of 16 bits: a port, a length, TCP's flags. */
struct nk_fw_numbers {
	__u32 classes;		/* how many; 0: none of the numbers is told from the others */
	__u32 table;		/* __u16[65536], the class of each */
	__u32 absent;		/* the class of packets without it */
	__u32 merged;		/* __u16[], by what is known so far and the class; 0: it has rows of its own */
	__u32 rows;		/* __u32[], by class */
};

struct nk_fw_layout {
	__u32 last;		/* the largest offset that is read from */
	__u32 words;		/* of rules in a row */
	__u32 summary;		/* words of summary in front of them; 0 if there is one word of rules */
	__u32 kinds;		/* __u16[], by side, family, fragment and protocol */
	struct nk_fw_numbers tcp_flags, length, dst_port, src_port;	/* merged in this order */
	__u32 services;		/* __u32[], the row of all that was merged */
	struct nk_fw_addresses addresses[2][2];		/* source and destination; IPv4 and IPv6 */
	__u32 no_address[2];	/* the rows of packets that have none */
	__u32 actions;		/* __u8[], enum nk_action by rule */
	__u32 rules;		/* how many */
};

enum nk_action {
	NK_ACTION_PASS = 0,
	NK_ACTION_DROP = 1,
	NK_ACTION_LEAVE = 2,	/* to the programs behind, or to the side's policy */
};

struct nk_fw_count {
	__u64 packets;
	__u64 bytes;
};

#endif
