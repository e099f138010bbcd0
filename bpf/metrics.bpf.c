// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * Flow metrics: what each flow sends, counted on both hooks of a netkit pair. It observes only.
 *
 * What is counted lies as <netkit_bpf/flow.h> tells, in one array of sets, CPU by CPU, that readers map. No two CPUs
 * share a line, and no helper is called for a packet of a flow that is in its set: a look-up in an array is inlined.
 */
#include "metrics/handshakes.h"
#include "metrics/packet.h"
#include "metrics/table.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

const volatile __u64 seeds[5] = { 1, 1, 1, 1, 1 };	/* odd; secret, so that nobody can fill one set on purpose */

/* What to say of every packet, per side: see monitor.bpf.c. */
volatile __s32 verdict[NK_SIDES] SEC(".data") = { -1, -1 };

/* What metrics_clock read: jiffies, of which the flows' times are, beside a clock that readers have too. */
struct nk_clock {
	__u64 jiffies;
	__u64 monotonic_ns;
} clock SEC(".data") = {};

static __always_inline int nk_count(struct __sk_buff *skb, const __u32 side)
{
	const __u32 flags = side == NK_PEER ? NK_FLOW_PEER : 0, mask = set_mask;
	struct nk_counted packet;
	struct nk_flow_set *set;
	struct nk_flow *flow;
	__u32 way, segments;
	__u64 hash, now;

	if (!nk_read_plain(skb, &packet, flags)) {
		__builtin_memset(&packet, 0, sizeof(packet));
		packet.key.pair = pair_index;
		nk_read_any(skb, &packet, flags);
	}

	/* The upper bits of products depend on all bits; then they are brought down. */
	hash = packet.words[0] * seeds[0] + packet.words[2] * seeds[2] + packet.words[4] * seeds[4];
	if (packet.words[1] | packet.words[3])	/* of IPv6 alone */
		hash += packet.words[1] * seeds[1] + packet.words[3] * seeds[3];
	hash = (hash ^ hash >> 32) * 0x9e3779b97f4a7c15ULL;
	packet.tag = hash >> 48 | 1;
	packet.set = bpf_get_smp_processor_id() * (mask + 1) + ((__u32)(hash >> 24) & mask);
	set = bpf_map_lookup_elem(&flow_sets, &packet.set);
	if (!set)
		return verdict[side];

	now = bpf_jiffies64();
	if (set->tags[0] == packet.tag && nk_is_flow(&set->flows[0], &packet))
		way = 0;
	else if (set->tags[1] == packet.tag && nk_is_flow(&set->flows[1], &packet))
		way = 1;
	else if (set->tags[2] == packet.tag && nk_is_flow(&set->flows[2], &packet))
		way = 2;
	else if (set->tags[3] == packet.tag && nk_is_flow(&set->flows[3], &packet))
		way = 3;
	else {
		way = nk_begin_flow(set, &packet, now) & (NK_FLOW_WAYS - 1);
		set->waits[way] = nk_may_end_handshake(&packet, now);
	}
	barrier_var(way);
	way &= NK_FLOW_WAYS - 1;

	segments = skb->gso_segs;
	flow = &set->flows[way];
	flow->counts.packets += segments > 1 ? segments : 1;
	flow->counts.skbs++;
	flow->counts.bytes += skb->len;
	set->last[way] = now;
	if (packet.tcp_flags) {
		set->tcp_flags[way] |= packet.tcp_flags;
		if (packet.tcp_flags & TCP_SYN || set->waits[way])
			nk_follow_handshake(set, way, &packet);
	}
	return verdict[side];
}

SEC("tc")
int metrics_primary(struct __sk_buff *skb)
{
	return nk_count(skb, NK_PRIMARY);
}

SEC("tc")
int metrics_peer(struct __sk_buff *skb)
{
	return nk_count(skb, NK_PEER);
}

/* For a test run, which is how a reader learns what the times of flows mean. */
SEC("tc")
int metrics_clock(struct __sk_buff *skb __attribute__((unused)))
{
	clock.jiffies = bpf_jiffies64();
	clock.monotonic_ns = bpf_ktime_get_ns();
	return 0;
}
