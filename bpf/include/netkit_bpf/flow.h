/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Flows and what is counted of them, as the BPF program keeps them and the C++ core reads them.
 *
 * Each CPU has a table of its own, of sets with four ways. A flow belongs to one set; the oldest of a full set makes
 * room, and goes to a ring buffer. A reader maps the tables and adds up what they hold and what the ring brought.
 *
 * Fixed widths, host byte order except for addresses and ports, no implicit padding.
 */
#ifndef NETKIT_BPF_FLOW_H
#define NETKIT_BPF_FLOW_H

#include <linux/types.h>

/* What enum nk_flags has too, in <netkit_bpf/event.h>, has the same bit there. */
enum nk_flow_flags {
	NK_FLOW_IPV4 = 1 << 0,
	NK_FLOW_PROTOCOL = 1 << 1,	/* the chain of headers was followed to its end: protocol */
	NK_FLOW_PORTS = 1 << 2,		/* src_port and dst_port are ports */
	NK_FLOW_TCP = 1 << 3,		/* TCP flags are collected */
	NK_FLOW_ICMP = 1 << 4,		/* src_port is ICMP's type and code */
	NK_FLOW_IPV6 = 1 << 5,
	NK_FLOW_PEER = 1 << 6,		/* the side: enum nk_side */
};

/* What a flow is known by: five words. What does not apply is zero. */
struct nk_flow_key {
	__u8 src[16];		/* network byte order; IPv4 takes the first four bytes */
	__u8 dst[16];
	__be16 src_port;	/* ICMP: its type and code; where neither IPv4 nor IPv6 is flagged: the EtherType */
	__be16 dst_port;
	__u16 pair;		/* which pair of the metrics */
	__u8 protocol;		/* after IPv6 extension headers */
	__u8 flags;		/* enum nk_flow_flags */
};

struct nk_flow_counts {
	__u64 packets;		/* on the wire: segments of GSO one by one */
	__u64 skbs;
	__u64 bytes;		/* of the skbs, with their Ethernet headers */
};

struct nk_flow {		/* a cache line */
	struct nk_flow_key key;
	struct nk_flow_counts counts;
};

struct nk_flow_start {
	__u64 first;		/* jiffies */
	__u64 handshake;	/* nanoseconds from SYN to the SYN and ACK that answers it; 0: unknown */
};

#define NK_FLOW_WAYS 4

/*
 * What every packet touches comes first, in a cache line: then the line of its flow. The version is odd while a flow
 * makes room for another one, and grows by two: a reader that finds the same even one before and after has all of one
 * moment.
 */
struct nk_flow_set {
	__u32 version;
	__u8 tcp_flags[NK_FLOW_WAYS];	/* all that were seen */
	__u16 tags[NK_FLOW_WAYS];	/* a part of the flow's hash; 0: the way is free */
	__u64 last[NK_FLOW_WAYS];	/* jiffies */
	__u8 waits[NK_FLOW_WAYS];	/* the SYN was seen, here or on another CPU, and not yet what follows it */
	__u32 unused[3];
	struct nk_flow flows[NK_FLOW_WAYS];
	struct nk_flow_start starts[NK_FLOW_WAYS];
};

/* A flow that made room. It was taken out of the set after the version that stands here. */
struct nk_flow_record {
	__u32 set;		/* its number, over all CPUs */
	__u32 version;
	struct nk_flow flow;
	struct nk_flow_start start;
	__u64 last;
	__u8 tcp_flags;
	__u8 unused[7];
};

/* Flows that made room and found the ring full, per CPU, pair and side: totals stay exact. */
struct nk_flow_unattributed {
	struct nk_flow_counts counts;
	__u64 flows;
};

#ifdef __cplusplus
#define NK_FLOW_ASSERT static_assert
#else
#define NK_FLOW_ASSERT _Static_assert
#endif
NK_FLOW_ASSERT(sizeof(struct nk_flow_key) == 40, "the key's size");
NK_FLOW_ASSERT(sizeof(struct nk_flow) == 64, "a flow's size");
NK_FLOW_ASSERT(sizeof(struct nk_flow_set) == 64 + NK_FLOW_WAYS * 80, "a set's size");
NK_FLOW_ASSERT(sizeof(struct nk_flow_record) == 104, "the record's size");
NK_FLOW_ASSERT(sizeof(struct nk_flow_unattributed) == 32, "the size of what is not attributed");

#endif
