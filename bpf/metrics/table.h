/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* The sets of flows, CPU by CPU, and how a flow makes room for another. */
#ifndef NETKIT_BPF_METRICS_TABLE_H
#define NETKIT_BPF_METRICS_TABLE_H

#include "packet.h"

const volatile __u32 pair_count = 1;
const volatile __u32 set_mask;		/* sets of each CPU, a power of two, less one */
const volatile __u64 wake_above = 1 << 20;	/* bytes in the ring: a quarter of it */
const volatile __u32 look_mask = 255;	/* one of so many flows that make room looks at that: waking takes microseconds */

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);		/* set before load */
	__type(key, __u32);
	__type(value, struct nk_flow_set);
} flow_sets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4 << 20);	/* set before load */
} evicted SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);		/* set before load */
	__type(key, __u32);
	__type(value, struct nk_flow_unattributed);
} unattributed SEC(".maps");

/*
 * A flow makes room: it goes to the ring, or is added to those that found no room there. From then on the set's version
 * is odd, which a reader sees before it sees any change of the flow: submitting is a full barrier, and so is an exchange.
 */
static __always_inline void nk_evict(struct nk_flow_set *set, __u32 way, __u32 number)
{
	const struct nk_flow *flow = &set->flows[way];
	__u32 index, version = set->version;
	struct nk_flow_unattributed *rest;
	struct nk_flow_record *record;
	__u64 flags = BPF_RB_NO_WAKEUP;

	record = bpf_ringbuf_reserve(&evicted, sizeof(*record), 0);
	if (record) {
		record->set = number;
		record->version = version;
		record->flow = *flow;
		record->start = set->starts[way];
		record->last = set->last[way];
		*(__u64 *)&record->tcp_flags = set->tcp_flags[way];
		/* Who takes a snapshot looks into the ring: nobody has to be woken before it fills. */
		if (!((number + (version >> 1)) & look_mask) &&
		    bpf_ringbuf_query(&evicted, BPF_RB_AVAIL_DATA) > wake_above)
			flags = BPF_RB_FORCE_WAKEUP;
		set->version = version + 1;
		bpf_ringbuf_submit(record, flags);
		return;
	}
	index = (bpf_get_smp_processor_id() * pair_count + flow->key.pair) * NK_SIDES +
		!!(flow->key.flags & NK_FLOW_PEER);
	rest = bpf_map_lookup_elem(&unattributed, &index);
	if (rest) {
		rest->counts.packets += flow->counts.packets;
		rest->counts.skbs += flow->counts.skbs;
		rest->counts.bytes += flow->counts.bytes;
		rest->flows++;
	}
	__sync_lock_test_and_set(&set->version, version + 1);
}

/* Gives the packet's flow the way that was free or used longest ago; returns which. */
static __noinline __u32 nk_begin_flow(struct nk_flow_set *set, const struct nk_counted *packet, __u64 now)
{
	__u32 version = set->version, way = version >> 1 & (NK_FLOW_WAYS - 1);	/* not always the same of equals */
	__u64 oldest = set->last[way];

	for (int i = 1; i < NK_FLOW_WAYS; i++) {
		__u32 other = (i + (version >> 1)) & (NK_FLOW_WAYS - 1);

		if (set->last[other] < oldest) {
			oldest = set->last[other];
			way = other;
		}
	}
	way &= NK_FLOW_WAYS - 1;
	if (set->tags[way])
		nk_evict(set, way, packet->set);
	else
		__sync_lock_test_and_set(&set->version, version + 1);
	set->flows[way].key = packet->key;
	set->flows[way].counts.packets = 0;
	set->flows[way].counts.skbs = 0;
	set->flows[way].counts.bytes = 0;
	set->starts[way].first = now;
	set->starts[way].handshake = 0;
	set->tcp_flags[way] = 0;
	set->last[way] = now;
	set->tags[way] = packet->tag;
	/* Who sees the even version sees all of this, and the flow that made room in the ring. */
	__sync_lock_test_and_set(&set->version, version + 2);
	return way;
}

static __always_inline bool nk_is_flow(const struct nk_flow *flow, const struct nk_counted *packet)
{
	const __u64 *words = (const __u64 *)&flow->key;

	return words[0] == packet->words[0] && words[2] == packet->words[2] && words[4] == packet->words[4] &&
	       (!(packet->key.flags & NK_FLOW_IPV6) || (words[1] == packet->words[1] && words[3] == packet->words[3]));
}

#endif
