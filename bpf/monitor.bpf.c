// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * The packet monitor: one record a packet, on both hooks of a netkit pair. It observes only.
 *
 * No kernel structure is read, so there is no CO-RE relocation and loading needs no kernel BTF. Which
 * side a packet is on is the program's own knowledge: at a netkit hook skb->ifindex is already that of
 * the receiving end.
 */
#include "packet.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

const volatile __u16 pair_index;

/*
 * What to say once the packet is recorded, per side. NEXT (-1) leaves the decision to later programs,
 * and to "pass" when there are none. That opens a blackhole, as a policy holds only while no program is
 * attached: so on a side that is one, DROP stands here for as long as this is the last program.
 */
volatile __s32 verdict[NK_SIDES] SEC(".data") = { -1, -1 };

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4 << 20);	/* set before load */
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, NK_SIDES);
	__type(key, __u32);
	__type(value, struct nk_counts);
} counts SEC(".maps");

static __always_inline int nk_observe(struct __sk_buff *skb, const __u32 side)
{
	__u32 key = side;	/* the helper takes an address; side itself must stay a constant */
	struct nk_counts *count = bpf_map_lookup_elem(&counts, &key);
	struct nk_event *event;

	if (!count)
		return verdict[side];
	count->seen++;		/* this CPU's own, and no program interrupts this one on it */
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event) {
		count->lost++;
		return verdict[side];
	}
	__builtin_memset(event, 0, sizeof(*event));
	event->timestamp = bpf_ktime_get_ns();
	event->length = skb->len;
	event->gso_segs = skb->gso_segs;
	event->side = side;
	event->pair = pair_index;
	nk_read_packet(skb, event);
	bpf_ringbuf_submit(event, 0);
	return verdict[side];
}

SEC("netkit/primary")
int monitor_primary(struct __sk_buff *skb)
{
	return nk_observe(skb, NK_PRIMARY);
}

SEC("netkit/peer")
int monitor_peer(struct __sk_buff *skb)
{
	return nk_observe(skb, NK_PEER);
}
