/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Events of what rules decided: one for each packet that is judged by a rule, or by the default, that says log. */
#ifndef NETKIT_BPF_FIREWALL_LOG_H
#define NETKIT_BPF_FIREWALL_LOG_H

#include "packet.h"

const volatile bool logs;		/* whether anything of this ruleset does; else there are no maps of it */
const volatile __u32 generation = 0;	/* which of the firewall's rulesets this is, set before load */

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);	/* set before load */
} verdicts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, NK_SIDES);
	__type(key, __u32);
	__type(value, struct nk_counts);
} verdicts_counts SEC(".maps");

/* Rare enough to read the packet once more, from its first header on. */
__noinline int nk_log(struct __sk_buff *skb, __u32 side, __u32 rule, int said)
{
	struct nk_fw_event *event;
	struct nk_counts *count;

	side &= 1;
	if (!logs)
		return 0;
	count = bpf_map_lookup_elem(&verdicts_counts, &side);
	if (!count)
		return 0;
	count->seen++;
	event = bpf_ringbuf_reserve(&verdicts, sizeof(*event), 0);
	if (!event) {
		count->lost++;
		return 0;
	}
	__builtin_memset(event, 0, sizeof(*event));
	event->packet.timestamp = bpf_ktime_get_ns();
	nk_set_outside(skb, &event->packet, side);
	nk_read_packet(skb, &event->packet);
	event->generation = generation;
	event->rule = rule;
	event->verdict = said;
	bpf_ringbuf_submit(event, 0);
	return 0;
}

#endif
