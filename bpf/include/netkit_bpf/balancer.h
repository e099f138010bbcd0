/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * What bpf/balancer.bpf.c and its users share: backends, the table of connections, what is counted.
 */
#ifndef NETKIT_BPF_BALANCER_H
#define NETKIT_BPF_BALANCER_H

#include <linux/types.h>

#define NK_LB_RING 65537	/* entries of the Maglev table: a prime, more than a hundred times as many as backends */
#define NK_LB_NOBODY 0xffff	/* in the table: there is no backend */
#define NK_LB_BACKENDS 512
#define NK_LB_WAYS 8
#define NK_LB_TICK 5

struct nk_lb_macs {
	__u8 dst[6], src[6];
};

/* An end that packets are redirected to, and what they say then. */
struct nk_lb_backend {
	__u8 address[16];	/* network byte order; IPv4 in the first four */
	__u32 ifindex;		/* of the pair's primary */
	__be16 port;
	__u16 generation;	/* of this place in the list; 0: nobody is here */
	__u32 to_sum, from_sum;	/* what a checksum becomes larger by when the virtual address becomes this one, and back */
	struct nk_lb_macs macs;
	__u32 serves;		/* takes new connections */
};

/*
 * Connections, by the hash of the client's address and port. Each can be in two sets; a set has eight places. Its words
 * lie in one cache line and are written last: a place is what its word says.
 */
struct nk_lb_flow {
	__u64 high, low;	/* the client's address as it is in the packet; IPv4 in low */
	__u32 seen;		/* when, in 2^NK_LB_TICK jiffies: they wrap in years */
	__u8 from_client;	/* enum nk_lb_seen */
	__u8 from_backend;
	__u8 unused[2];
};

struct nk_lb_set {
	__u64 words[NK_LB_WAYS];	/* port, backend, generation and 16 bits of the hash; 0: free */
	struct nk_lb_flow flows[NK_LB_WAYS];
};

enum nk_lb_seen {
	NK_LB_ANY = 1,		/* a packet */
	NK_LB_PAST_SYN = 2,	/* one that is no SYN */
	NK_LB_FIN = 4,
	NK_LB_RST = 8,
};

struct nk_lb_count {
	__u64 connections;
	__u64 packets, bytes;
	__u64 reply_packets, reply_bytes;
};

/* What is told apart of packets and connections that do not go their usual way. */
enum nk_lb_event {
	NK_LB_NO_BACKEND = 0,	/* dropped: nobody takes it */
	NK_LB_FRAGMENT = 1,	/* dropped: a fragment with the service's port; later ones have none */
	NK_LB_HAIRPIN = 2,	/* dropped: the client has the backend's address */
	NK_LB_EVICTED = 3,	/* connections that were forgotten, as both sets had no place */
	NK_LB_MOVED = 4,	/* connections whose backend is gone, and which went on to another one */
	NK_LB_ICMP = 5,		/* ICMP errors that were translated */
	NK_LB_EVENTS = 6,
};

#endif
