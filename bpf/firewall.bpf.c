// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * The firewall: the first rule that matches a packet decides. One object a ruleset: its tables, which lie as
 * <netkit_bpf/firewall.h> tells, its counters and a program for each side.
 *
 * A rule that passes a packet says NEXT, so that programs behind see it; where none follows, the packet passes. What no
 * rule matches is dropped, or left to the programs behind and to the side's policy.
 */
#include "firewall/packet.h"
#include "firewall/lookup.h"
#include "firewall/connections.h"
#include "firewall/limits.h"
#include "firewall/log.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

#define VERDICT_NEXT (-1)
#define VERDICT_DROP 2

const volatile __u32 default_action = NK_ACTION_LEAVE;	/* of packets that no rule matches; with NK_ACTION_LOG or not */

/*
 * What the rulesets of a firewall share, by enum nk_fw_shared: which of them is in force on both hooks, and what to say of a
 * packet that is left to others, per side: NEXT, or DROP on a blackhole.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, NK_FW_SHARED);
	__type(key, __u32);
	__type(value, __s32);
} shared SEC(".maps");

/*
 * What was on each hook before. A ruleset that comes calls it until it is in force: it is put on one hook and then on the
 * other, and one write is the instant for both.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, NK_FW_SIDES);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
} before SEC(".maps");

/* By rule, some to an element; behind the last rule, what enum nk_fw_counter tells. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);		/* set before load */
	__type(key, __u32);
	__type(value, struct nk_fw_counts);
} counts SEC(".maps");

static __always_inline void nk_count(struct __sk_buff *skb, __u32 number, bool is_limited)
{
	__u32 key = number / NK_FW_TOGETHER;
	struct nk_fw_counts *together = bpf_map_lookup_elem(&counts, &key);

	if (together) {		/* this CPU's own, and no program interrupts this one on it */
		struct nk_fw_count *count = &together->count[number % NK_FW_TOGETHER];

		count->packets++;
		count->bytes += skb->len;
		if (is_limited)
			count->limited++;
	}
}

static __always_inline __s32 nk_shared(__u32 key)
{
	const volatile __s32 *value = bpf_map_lookup_elem(&shared, &key);

	return value ? *value : 0;
}

static __always_inline int nk_filter(struct __sk_buff *skb, const __u32 side)
{
	struct nk_packet packet = {};
	int said = VERDICT_DROP, in_force = nk_shared(NK_FW_IN_FORCE);
	const __u8 *table;
	__u32 key = 0, rule, action;
	bool is_logged;

	if (in_force != (__s32)generation) {
		/*
		 * It comes back where nothing was before. If the verifier knew the index, the kernel would change the
		 * code itself with each change of the map, and wait for all CPUs.
		 */
		bpf_tail_call(skb, &before, side + zero);
		if (in_force < 0)
			return nk_shared(NK_FW_LEFT + side);
	}
	table = bpf_map_lookup_elem(&tables, &key);
	if (!table)
		return VERDICT_DROP;
	nk_read(skb, &packet);
	if (established && nk_is_established(&packet, side)) {
		nk_count(skb, LAYOUT->rules + NK_COUNT_ESTABLISHED, false);
		return VERDICT_NEXT;
	}
	rule = nk_find_rule(table, &packet, side);
	action = rule < LAYOUT->rules ? *nk_at(table, LAYOUT->actions + (__u64)rule) : default_action;
	is_logged = logs && action & NK_ACTION_LOG;
	action &= ~NK_ACTION_LOG;
	if (LAYOUT->limits && action == NK_ACTION_LIMIT)
		action = nk_take_token(table, rule) ? NK_ACTION_PASS : NK_ACTION_LIMIT;
	nk_count(skb, rule, LAYOUT->limits && action == NK_ACTION_LIMIT);
	if (action == NK_ACTION_PASS)
		said = VERDICT_NEXT;
	else if (action == NK_ACTION_LEAVE)
		said = nk_shared(NK_FW_LEFT + side);
	if (is_logged)
		nk_log(skb, side, rule, said);
	if (established && said == VERDICT_NEXT && nk_remember(&packet, side))
		nk_count(skb, LAYOUT->rules + NK_COUNT_NO_ROOM, false);
	return said;
}

SEC("tc")
int firewall_primary(struct __sk_buff *skb)
{
	return nk_filter(skb, NK_PRIMARY);
}

SEC("tc")
int firewall_peer(struct __sk_buff *skb)
{
	return nk_filter(skb, NK_PEER);
}

/* For a test run: the number of the rule that would decide for the side that is in the mark. Nothing is counted. */
SEC("?tc")
int firewall_explain(struct __sk_buff *skb)
{
	struct nk_packet packet = {};
	const __u8 *table;
	__u32 key = 0;

	table = bpf_map_lookup_elem(&tables, &key);
	if (!table)
		return NO_RULE;
	nk_read(skb, &packet);
	return nk_find_rule(table, &packet, skb->mark & 1);
}
