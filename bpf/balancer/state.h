/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Of the load balancer: its settings, its maps and what it counts. */
#ifndef NETKIT_BPF_BALANCER_STATE_H
#define NETKIT_BPF_BALANCER_STATE_H

#include <netkit_bpf/packet.h>
#include <netkit_bpf/balancer.h>

#define VERDICT_NEXT (-1)
#define VERDICT_DROP 2

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10
#define IPV4_FRAGMENT 0x3fff		/* more fragments, or an offset */
#define IPV4_OFFSET 0x1fff
#define ICMP_HEADER 8

/* All of these are set before load, and the verifier leaves out what they rule out. */
const volatile __be32 vip[4];		/* IPv4 in the first */
const volatile __be16 vip_port;
const volatile bool is_ipv6;
const volatile bool is_tcp;		/* else UDP */
const volatile bool is_dsr;		/* backends answer as the virtual address themselves: nothing but MACs is written */
const volatile __u32 set_mask;		/* sets of connections - 1; a power of two - 1 */
const volatile __u32 udp_idle = 1000;	/* after which datagrams begin a new connection; as nk_lb_flow.seen */
const volatile __u32 tcp_idle = 1000;	/* after which a connection counts as over */
const volatile __u32 linger = 10;	/* after the last packet of a connection that is over */
const volatile __u32 client_ifindex;	/* of the primary of the clients' pair */
const volatile __u64 seed;		/* nobody shall know which connections share a set */

/* What to say of packets that are not for the service: NEXT, or DROP on a blackhole (see firewall.bpf.c). */
volatile __s32 client_verdict SEC(".data") = VERDICT_NEXT;

volatile struct nk_lb_macs client_macs SEC(".data") = {};	/* of the peer of the clients' pair, and of its primary */

/* Zero, which a verifier does not know. */
volatile __u32 zero SEC(".data") = 0;

struct nk_ring {
	__u16 backends[NK_LB_RING];
};

struct nk_ring_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(struct nk_ring));
};

/* The Maglev table. Another one takes its place whole, and by then no program looks at this one any more: the kernel waits. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct nk_ring_map);
} ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, NK_LB_BACKENDS);
	__type(key, __u32);
	__type(value, struct nk_lb_backend);
} backends SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);		/* set before load */
	__type(key, __u32);
	__type(value, struct nk_lb_set);
} connections SEC(".maps");

/* When connections were evicted, by hash. */
struct nk_evictions {
	__u32 when[NK_LB_WAYS];		/* as nk_lb_flow.seen, but odd; 0: never */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);		/* set before load: as connections */
	__type(key, __u32);
	__type(value, struct nk_evictions);
} evictions SEC(".maps");

/* Places of backends, by the ifindex of their primary. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, NK_LB_BACKENDS);
	__type(key, __u32);
	__type(value, __u32);
} places SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, NK_LB_BACKENDS);
	__type(key, __u32);
	__type(value, struct nk_lb_count);
} counts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, NK_LB_EVENTS);
	__type(key, __u32);
	__type(value, __u64);
} events SEC(".maps");

/* By backend: balancer_survey counts them. */
struct nk_open {
	__u64 open;		/* connections that are not over */
	__u64 lingering;	/* that are, and whose last packets may be on their way */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, NK_LB_BACKENDS);
	__type(key, __u32);
	__type(value, struct nk_open);
} open SEC(".maps");

static __always_inline void nk_tell(__u32 event)
{
	__u64 *count = bpf_map_lookup_elem(&events, &event);

	if (count)
		(*count)++;	/* this CPU's own */
}

#endif
