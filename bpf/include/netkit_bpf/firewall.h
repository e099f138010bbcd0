/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * How a ruleset lies in the one value that bpf/firewall.bpf.c looks packets up in. src/firewall/compiler.cpp writes it.
 *
 * Each property of a packet (its addresses, ports, what kind of packet it is) is looked up alone and gives a row: a bit
 * for each rule that this property does not speak against. Rows have much in common: a row is a summary, a bit for each
 * group of words that is not zero, and then a __u32 for each group, its offset. With one group it is that group itself. Of the bits that all rows of a packet have in common, the one of the lowest rule decides. Bits are not in the
 * order of the rules: those that one packet may match stand beside each other, so that few groups are looked at. Within a
 * group they are in order.
 */
#ifndef NETKIT_BPF_FIREWALL_H
#define NETKIT_BPF_FIREWALL_H

#include <linux/types.h>

#include "event.h"

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
#define NK_FW_GROUP 8		/* words of a group at most, which are a cache line */

/* All of these are offsets in bytes, unless they say otherwise. A row is named by its offset. */

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
	__u32 group;		/* words of rules that one bit of a summary stands for */
	__u32 groups;		/* of rules in a row */
	__u32 summary;		/* words of summary in front of their offsets; 0 if there is one group */
	__u32 order;		/* __u32[], the number of a rule by its bit; behind the last bit of a row, their count */
	__u32 kinds;		/* __u16[], by side, family, fragment and protocol */
	struct nk_fw_numbers tcp_flags, length, dst_port, src_port;	/* merged in this order */
	__u32 services;		/* __u32[], the row of all that was merged */
	struct nk_fw_addresses addresses[2][2];		/* source and destination; IPv4 and IPv6 */
	__u32 no_address[2];	/* the rows of packets that have none */
	__u32 actions;		/* __u8[], enum nk_action by rule */
	__u32 limits;		/* struct nk_fw_limit by rule; 0 if none has one */
	__u32 rules;		/* how many */
};

enum nk_action {
	NK_ACTION_PASS = 0,
	NK_ACTION_DROP = 1,
	NK_ACTION_LEAVE = 2,	/* to the programs behind, or to the side's policy */
	NK_ACTION_LIMIT = 3,	/* pass what does not exceed the rule's rate, drop the rest */
	NK_ACTION_LOG = 0x80,	/* beside one of these: make an event */
};

/* A bucket from which each packet takes a token, and which is filled again evenly. In nanoseconds. */
struct nk_fw_limit {
	__u64 interval;		/* between two tokens */
	__u64 room;		/* the time to fill all of it but one token */
};

enum nk_fw_shared {
	NK_FW_IN_FORCE = 0,	/* the generation of the ruleset that is; negative: none yet */
	NK_FW_LEFT = 1,		/* by side, the verdict of what is left to others */
	NK_FW_SHARED = NK_FW_LEFT + NK_FW_SIDES,
};

/* What is counted behind the rules. */
enum nk_fw_counter {
	NK_COUNT_DEFAULT,	/* no rule matches */
	NK_COUNT_ESTABLISHED,	/* of an established connection */
	NK_COUNT_NO_ROOM,	/* passed, and its connection could not be remembered */
	NK_FW_COUNTERS,
};

struct nk_fw_count {
	__u64 packets;
	__u64 bytes;
	__u64 limited;		/* packets among them that exceeded the rule's rate */
};

#define NK_FW_TOGETHER 64	/* a power of two */

/* The kernel makes, reads and frees the elements of a per-CPU map one by one (bpf_array_alloc_percpu()). */
struct nk_fw_counts {
	struct nk_fw_count count[NK_FW_TOGETHER];
};

/* What was judged, and how. The record of the packet comes first, so that what reads packet events reads these. */
struct nk_fw_event {
	struct nk_event packet;
	__u32 generation;	/* of the ruleset that judged it */
	__u32 rule;		/* its number; how many there are, if none matches */
	__s32 verdict;		/* NEXT or DROP */
	__u32 unused;		/* zero */
};

#endif
