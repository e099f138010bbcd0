// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * The packet monitor: one record a packet, on both hooks of a netkit pair. It observes only.
 *
 * No kernel structure is read, so there is no CO-RE relocation and loading needs no kernel BTF. Which
 * side a packet is on is the program's own knowledge: at a netkit hook skb->ifindex is already that of
 * the receiving end.
 */
#include <netkit_bpf/packet.h>

char LICENSE[] SEC("license") = "Dual MIT/GPL";

const volatile __u16 pair_index;
const volatile __u32 snaplen;	/* how many bytes of each packet go with its record; 0: none, which costs nothing */
const volatile bool percpu;	/* each CPU has a ring of its own, so that none waits for another */
const volatile bool ordered;	/* readers put the records of all CPUs in order: see nk_stamp() */

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

/* The rings by CPU. One that came online later has none, and shares events. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);		/* set before load */
	__type(key, __u32);
	__array(values, struct {
		__uint(type, BPF_MAP_TYPE_RINGBUF);
		__uint(max_entries, 4096);	/* of a page each, or more: rings of any size fit */
	});
} cpu_rings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, NK_SIDES);
	__type(key, __u32);
	__type(value, struct nk_counts);
} counts SEC(".maps");

/*
 * With a snaplen a record is made here, one a CPU, and then copied to the ring: bpf_ringbuf_reserve() takes no length
 * that only the packet knows. Both sizes are set before load.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(struct nk_record));
} scratch SEC(".maps");

/* What monitor_rest is to go on with. */
struct nk_task {
	__u32 side;
	__u32 index;		/* zero */
	bool parsed;		/* the record in scratch is complete but for its data */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct nk_task);
} task SEC(".maps");

int monitor_rest(struct __sk_buff *skb);

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__array(values, int(struct __sk_buff *));
} rest SEC(".maps") = {
	.values = { [0] = &monitor_rest },
};

static __always_inline struct nk_record *nk_scratch(void)
{
	__u32 cpu = bpf_get_smp_processor_id();

	return bpf_map_lookup_elem(&scratch, &cpu);
}

/* The ring that takes the records of this CPU. */
static __always_inline void *nk_ring(void)
{
	void *ring = NULL;
	__u32 cpu;

	if (percpu) {
		cpu = bpf_get_smp_processor_id();
		ring = bpf_map_lookup_elem(&cpu_rings, &cpu);
	}
	return ring ? ring : &events;
}

/*
 * Sets the time of a record that has its place in the ring. A reader that orders the records of all CPUs takes the time
 * and then looks how far each ring is filled: no record that it does not see may be older. So the place must be out
 * before the clock is read, of which an atomic operation with a result makes sure.
 */
static __always_inline void nk_stamp(struct nk_event *event)
{
	if (ordered)
		__sync_lock_test_and_set(&event->timestamp, 0);
	event->timestamp = bpf_ktime_get_ns();
}

/* A record with all that no header tells, and the rest of it zero; NULL if the ring has no room. */
static __always_inline struct nk_event *nk_begin(struct __sk_buff *skb, __u32 side, __u16 ethertype)
{
	__u32 tagged = -skb->vlan_present;	/* a mask: a branch would be one more way for the verifier */
	struct nk_event *event;

	if (snaplen)
		event = (struct nk_event *)nk_scratch();
	else
		event = bpf_ringbuf_reserve(nk_ring(), sizeof(*event), 0);
	if (!event)
		return NULL;
	__builtin_memset(event, 0, sizeof(*event));
	nk_stamp(event);
	event->length = skb->len;
	event->gso_segs = skb->gso_segs;
	event->ethertype = ethertype;
	event->side = side;
	event->pair = pair_index;
	event->vlan_tci = skb->vlan_tci & tagged;	/* outside those within the packet */
	event->flags = (NK_VLAN | NK_TAG_BESIDE) & tagged;
	return event;
}

static __always_inline int nk_observe(struct __sk_buff *skb, const __u32 side)
{
	void *data = (void *)(long)skb->data;
	void *data_end = (void *)(long)skb->data_end;
	__u32 key = side;	/* the helper takes an address; side itself must stay a constant */
	struct nk_counts *count = bpf_map_lookup_elem(&counts, &key);
	const struct nk_header *kind;
	struct ethhdr *eth = data;
	struct nk_event *event;
	void *ip = eth + 1;
	bool parsed = false;
	struct nk_task *next;
	__u32 payload_len, ip_len;

	if (!count)
		return verdict[side];
	count->seen++;		/* this CPU's own, and no program interrupts this one on it */

	if (ip + sizeof(struct iphdr) + NK_LEAST_TRANSPORT > data_end)
		goto rest;
	if (eth->h_proto == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr *ipv6 = ip;

		ip_len = sizeof(*ipv6);
		if (ip + ip_len + NK_LEAST_TRANSPORT > data_end)
			goto rest;
		kind = &nk_headers[NK_IPV6_HEADERS + ipv6->nexthdr];
		payload_len = bpf_ntohs(ipv6->payload_len);
		if (*(__u8 *)ip >> 4 != 6 || kind->extension || !payload_len)
			goto rest;
	} else if (eth->h_proto == bpf_htons(ETH_P_IP)) {
		struct iphdr *ipv4 = ip;

		ip_len = sizeof(*ipv4);
		kind = &nk_headers[NK_IPV4_HEADERS + ipv4->protocol];
		payload_len = bpf_ntohs(ipv4->tot_len) - sizeof(*ipv4);		/* huge, if it is negative */
		if (*(__u8 *)ip != 0x45 || ipv4->frag_off & bpf_htons(0x3fff))
			goto rest;
	} else {
		goto rest;
	}
	barrier_var(ip_len);	/* a verifier follows the number, not what clang concludes from it */
	if (payload_len > skb->len - ETH_HLEN - ip_len)
		goto rest;

	event = nk_begin(skb, side, bpf_ntohs(eth->h_proto));
	if (!event)
		goto lost;
	if (ip_len == sizeof(struct ipv6hdr)) {
		nk_set_ipv6(event, ip);
		event->protocol = ((struct ipv6hdr *)ip)->nexthdr;
		event->flags |= NK_PROTOCOL;
	} else {
		nk_set_ipv4(event, ip, payload_len);
	}
	nk_read_transport(skb, event, kind, payload_len, ETH_HLEN + ip_len, ip + ip_len);
	if (!snaplen) {
		bpf_ringbuf_submit(event, 0);
		return verdict[side];
	}
	parsed = true;

rest:
	key = 0;
	next = bpf_map_lookup_elem(&task, &key);
	if (next) {
		next->side = side;
		next->parsed = parsed;
		bpf_tail_call(skb, &rest, *(volatile __u32 *)&next->index);
	}
lost:
	count->lost++;
	return verdict[side];
}

/*
 * One section, which is for all hooks: a program is called by a tail call only from one of its own attach type, and
 * neither hook asks for its own.
 */
SEC("tc")
int monitor_primary(struct __sk_buff *skb)
{
	return nk_observe(skb, NK_PRIMARY);
}

SEC("tc")
int monitor_peer(struct __sk_buff *skb)
{
	return nk_observe(skb, NK_PEER);
}

/* Copies a record of @size bytes to the ring; returns whether there was room. */
static __always_inline bool nk_output(struct nk_event *event, __u32 size)
{
	struct bpf_dynptr place;
	bool has_room;

	if (!ordered)
		return !bpf_ringbuf_output(nk_ring(), event, size, 0);
	has_room = !bpf_ringbuf_reserve_dynptr(nk_ring(), size, 0, &place);
	if (has_room) {
		nk_stamp(event);
		bpf_dynptr_write(&place, 0, event, size, 0);
	}
	bpf_ringbuf_submit_dynptr(&place, 0);	/* without room it does nothing but has to be called */
	return has_room;
}

/* Makes the record whole and hands it over; returns whether there was room. */
static __always_inline bool nk_finish(struct __sk_buff *skb, const struct nk_task *todo)
{
	bool parsed = snaplen && todo->parsed;
	struct nk_event *event;

	event = parsed ? (struct nk_event *)nk_scratch() : nk_begin(skb, todo->side, 0);
	if (!event)
		return false;
	if (!parsed)
		nk_read_packet(skb, event);
	if (!snaplen) {
		bpf_ringbuf_submit(event, 0);
		return true;
	}
	return nk_output(event, sizeof(*event) + nk_copy_data(skb, (struct nk_record *)event, snaplen));
}

/*
 * What is left to do of a packet that is not plain, or whose data are wanted. One program for both sides, because
 * loading it is most of the work.
 */
SEC("tc")
int monitor_rest(struct __sk_buff *skb)
{
	__u32 key = 0, side;
	struct nk_task *todo = bpf_map_lookup_elem(&task, &key);
	struct nk_counts *count;

	if (!todo)
		return -1;
	side = todo->side & 1;
	if (!nk_finish(skb, todo)) {
		key = side;
		count = bpf_map_lookup_elem(&counts, &key);
		if (count)
			count->lost++;
	}
	return verdict[side];
}
