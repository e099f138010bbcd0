/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* TCP's handshakes: how long an answer to a SYN took. They are rare, so a call does no harm. */
#ifndef NETKIT_BPF_METRICS_HANDSHAKES_H
#define NETKIT_BPF_METRICS_HANDSHAKES_H

#include "packet.h"

/* By the flow that began: its two directions can be on two CPUs, so this one is shared. */
struct nk_handshake {
	__u64 syn_ns;		/* 0: sent more than once, so that nobody knows which one is answered */
	__u64 took_ns;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct nk_flow_key);
	__type(value, struct nk_handshake);
} handshakes SEC(".maps");

/* When a SYN was answered last, in jiffies. */
volatile __u64 last_answer SEC(".data") = 0;

#define NK_ANSWER_FRESH 1024	/* jiffies: one to ten seconds, in which the client hears of it and says so */

/* Whether the first packet of a flow on this CPU may end a handshake whose SYN went out on another one. */
static __always_inline bool nk_may_end_handshake(const struct nk_counted *packet, __u64 now)
{
	return packet->tcp_flags && !(packet->tcp_flags & TCP_SYN) && (__s64)(now - last_answer) < NK_ANSWER_FRESH;
}

static __noinline int nk_follow_handshake(struct nk_flow_set *set, __u32 way, const struct nk_counted *packet)
{
	struct nk_flow_key key = packet->key, back;
	struct nk_handshake *found, begun = {};

	way &= NK_FLOW_WAYS - 1;
	key.flags &= ~NK_FLOW_PEER;
	if ((packet->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN) {
		begun.syn_ns = bpf_ktime_get_ns();
		found = bpf_map_lookup_elem(&handshakes, &key);	/* whichever CPU it was on */
		if (found && !found->took_ns)
			begun.syn_ns = 0;
		set->waits[way] = 1;
		bpf_map_update_elem(&handshakes, &key, &begun, BPF_ANY);
		return 0;
	}
	if (packet->tcp_flags & TCP_SYN) {
		__builtin_memcpy(back.src, key.dst, sizeof(back.src));
		__builtin_memcpy(back.dst, key.src, sizeof(back.dst));
		back.src_port = key.dst_port;
		back.dst_port = key.src_port;
		back.pair = key.pair;
		back.protocol = key.protocol;
		back.flags = key.flags;
		found = bpf_map_lookup_elem(&handshakes, &back);
		if (found && found->syn_ns && !found->took_ns) {
			found->took_ns = bpf_ktime_get_ns() - found->syn_ns;
			set->starts[way].handshake = found->took_ns;
			last_answer = bpf_jiffies64();
		}
		return 0;
	}
	set->waits[way] = 0;
	found = bpf_map_lookup_elem(&handshakes, &key);
	if (found) {
		if (found->took_ns)
			set->starts[way].handshake = found->took_ns;
		bpf_map_delete_elem(&handshakes, &key);
	}
	return 0;
}

#endif
