/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The record of one packet, as the BPF program writes it and the C++ core reads it.
 *
 * Fixed widths, host byte order except for the addresses, no implicit padding. A field that does not
 * apply is zero; the flags say which apply.
 */
#ifndef NETKIT_BPF_EVENT_H
#define NETKIT_BPF_EVENT_H

#include <linux/types.h>

enum nk_side {
	NK_PRIMARY = 0,
	NK_PEER = 1,
	NK_SIDES = 2,
};

enum nk_flags {
	NK_IP = 1 << 0,		/* a valid IP header: addresses, lengths, hop limit and next header */
	NK_PROTOCOL = 1 << 1,	/* the chain of headers was followed to its end: protocol */
	NK_PORTS = 1 << 2,	/* src_port and dst_port are ports */
	NK_TCP = 1 << 3,	/* tcp_flags, tcp_seq, tcp_ack and tcp_window */
	NK_ICMP = 1 << 4,	/* src_port is the ICMP type, dst_port the code */
	NK_FRAGMENT = 1 << 5,	/* fragment */
	NK_VLAN = 1 << 6,	/* vlan_tci */
	NK_TAG_BESIDE = 1 << 7,	/* the tag was beside the packet: length does not count its four bytes */
	NK_ECHO = 1 << 8,	/* icmp_id and icmp_seq: an echo request or reply */
};

struct nk_event {
	__u64 timestamp;	/* CLOCK_MONOTONIC, nanoseconds */
	__u8 src[16];		/* network byte order; IPv4 takes the first four bytes */
	__u8 dst[16];
	__u32 length;		/* skb->len: with the Ethernet header, before segmentation */
	__u32 payload_len;	/* bytes after the IP header, extension headers included */
	__u32 ip_word;		/* version (4 bits), traffic class (8), flow label (20) */
	__u32 tcp_seq;
	__u32 tcp_ack;
	__u16 src_port;
	__u16 dst_port;
	__u16 gso_segs;		/* packets on the wire; 0 and 1 both mean one */
	__u16 ethertype;	/* after VLAN tags */
	__u16 fragment;		/* offset in bytes (a multiple of 8); bit 0: more fragments follow */
	__u16 vlan_tci;		/* the outermost tag */
	__u16 tcp_window;	/* as it stands in the header, not scaled */
	__u16 icmp_id;
	__u16 icmp_seq;
	__u16 pair;		/* which pair of the monitor */
	__u16 flags;		/* enum nk_flags */
	__u8 next_header;	/* of the IP header itself */
	__u8 protocol;		/* after IPv6 extension headers */
	__u8 hop_limit;
	__u8 tcp_flags;
	__u8 side;		/* enum nk_side */
	__u8 unused;		/* zero */
};

/*
 * With a snaplen: the first bytes of the packet as on the wire, including a tag that was beside it. The record ends
 * with them, so records differ in length.
 */
struct nk_record {
	struct nk_event event;
	__u8 data[];
};

/* Per CPU and side. Every packet is seen; each one seen is in the ring or lost. */
struct nk_counts {
	__u64 seen;
	__u64 lost;
};

#ifdef __cplusplus
static_assert(sizeof(nk_event) == 88 && sizeof(nk_counts) == 16);
#else
_Static_assert(sizeof(struct nk_event) == 88, "the record's size");
_Static_assert(sizeof(struct nk_counts) == 16, "the counters' size");
#endif

#endif
