// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * The packet monitor: one record per packet, on both hooks of a netkit pair. It only observes.
 *
 * No kernel structure is read, so there is no CO-RE relocation and loading needs no kernel BTF. There is one program
 * per side, because a packet does not show its side: at a netkit hook skb->ifindex is already that of the receiving
 * end.
 */
#include <netkit_bpf/packet.h>

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/*
 * Which pair it is: known to the program because every pair has programs of its own. They could also look up
 * skb->ifindex, but that is the receiving end's, so it takes the namespace too, and changes when an end is moved.
 */
const volatile __u16 pair_index;
const volatile __u32 first_count;	/* the key of the primary's counts; the peer's follow */
const volatile __u32 snaplen;	/* how many bytes of each packet follow its record; 0: none, which costs nothing */
const volatile bool percpu;	/* each CPU has a ring of its own, so that none waits for another */
const volatile bool ordered;	/* readers put the records of all CPUs in order: see nk_stamp() */

/*
 * The return value per side once the packet is recorded. NEXT (-1) leaves the decision to later programs; if there are
 * none, the packet passes. That would open a blackhole, because a policy applies only while no program is attached: so
 * on a blackhole side this is DROP while this is the last program.
 */
volatile __s32 verdict[NK_SIDES] SEC(".data") = { -1, -1 };

/*
 * A monitor that keeps its place has two copies of each program, because a program can be on a hook only once. When
 * another one came in front, the copy that is not on the hook is attached before that; then it takes over from the one
 * that is behind, which is detached.
 */
enum nk_recording {
	NK_SECOND_COPY = 1,	/* which copy records */
	NK_OTHER_WAITS = 2,	/* the other one is in front of it, or about to be */
	NK_OTHER_LEAVES = 4,	/* the other one is behind it, still */
};

const volatile bool keeps_first;
volatile __s32 recording[NK_SIDES] SEC(".data") = { 0, 0 };

/* Whether the copy that waits left the packet that is on this CPU to the one behind. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);		/* set before load, to that of counts, if it keeps its place */
	__type(key, __u32);
	__type(value, __u32);
} left_behind SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4 << 20);	/* set before load */
} events SEC(".maps");

/* The rings by CPU. A CPU that came online later has none, and uses the shared ring `events`. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);		/* set before load */
	__type(key, __u32);
	__array(values, struct {
		__uint(type, BPF_MAP_TYPE_RINGBUF);
		__uint(max_entries, 4096);	/* one page; rings of any size fit in the map */
	});
} cpu_rings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, NK_SIDES);
	__type(key, __u32);
	__type(value, struct nk_counts);
} counts SEC(".maps");

/*
 * With a snaplen a record is made here, one per CPU, and then copied to the ring: bpf_ringbuf_reserve() takes only a
 * constant length. Both sizes are set before load.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(struct nk_record));
} scratch SEC(".maps");

/* The state that is passed to monitor_rest, which serves all pairs. */
struct nk_task {
	__u32 count;		/* the key of its counts */
	__u32 index;		/* zero */
	__s32 verdict;
	__u16 pair;
	__u8 side;
	bool parsed;		/* the record in scratch is complete but for its data */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct nk_task);
} task SEC(".maps");

/*
 * Holds monitor_rest, once it is put there after load: libbpf would do so by itself, but for every object that shares
 * the map.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
} rest SEC(".maps");

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
 * and then looks how far each ring is filled: no record that it does not see may be older. So the place must be visible
 * before the clock is read; an atomic operation with a result ensures that.
 */
static __always_inline void nk_stamp(struct nk_event *event)
{
	if (ordered)
		__sync_lock_test_and_set(&event->timestamp, 0);
	event->timestamp = bpf_ktime_get_ns();
}

/* Makes a record with the fields that come from no header, and zeros elsewhere; NULL if the ring has no room. */
static __always_inline struct nk_event *nk_begin(struct __sk_buff *skb, __u32 side, __u16 pair, __u16 ethertype)
{
	struct nk_event *event;

	if (snaplen)
		event = (struct nk_event *)nk_scratch();
	else
		event = bpf_ringbuf_reserve(nk_ring(), sizeof(*event), 0);
	if (!event)
		return NULL;
	__builtin_memset(event, 0, sizeof(*event));
	nk_stamp(event);
	nk_set_outside(skb, event, side);
	event->ethertype = ethertype;
	event->pair = pair;
	return event;
}

/* Whether this copy of a side's program records the packet, once for both copies; *said is what it then returns. */
static __always_inline bool nk_is_recorder(const __u32 side, const __u32 copy, __s32 *said)
{
	__u32 key = first_count + side, *left = bpf_map_lookup_elem(&left_behind, &key);
	__s32 state = recording[side];

	if (!left)
		return true;
	if ((state & NK_SECOND_COPY) == copy) {
		*left = 0;
		if (state & NK_OTHER_LEAVES)
			*said = -1;	/* the verdict is that of the last one */
		return true;
	}
	if (state & NK_OTHER_WAITS) {
		*left = 1;
		*said = -1;
		return false;
	}
	if (!*left)
		return false;
	*left = 0;	/* the other one took over since it left this packet */
	return true;
}

static __always_inline int nk_observe(struct __sk_buff *skb, const __u32 side, const __u32 copy)
{
	__u32 key = first_count + side;	/* the helper takes an address; side itself must stay a constant */
	struct nk_counts *count = bpf_map_lookup_elem(&counts, &key);
	bool is_ipv6, parsed = false;
	struct nk_event *event;
	struct nk_plain plain;
	struct nk_task *next;
	__s32 said = verdict[side];

	if (keeps_first && !nk_is_recorder(side, copy, &said))
		return said;
	if (!count)
		return said;
	count->seen++;		/* per CPU, and no other program interrupts this one there */

	if (!nk_find_plain(skb, &plain))
		goto rest;

	is_ipv6 = plain.ip_len == sizeof(struct ipv6hdr);
	event = nk_begin(skb, side, pair_index, is_ipv6 ? ETH_P_IPV6 : ETH_P_IP);
	if (!event)
		goto lost;
	if (is_ipv6) {
		const struct ipv6hdr *ip = (const void *)plain.ip;

		nk_set_ipv6(event, ip);
		event->protocol = ip->nexthdr;
		event->flags |= NK_PROTOCOL;
	} else {
		nk_set_ipv4(event, (const void *)plain.ip, plain.payload_len);
	}
	nk_read_transport(skb, event, plain.kind, plain.payload_len, ETH_HLEN + plain.ip_len, plain.ip + plain.ip_len);
	if (!snaplen) {
		bpf_ringbuf_submit(event, 0);
		return said;
	}
	parsed = true;

rest:
	key = 0;
	next = bpf_map_lookup_elem(&task, &key);
	if (next) {
		next->count = first_count + side;
		next->verdict = said;
		next->pair = pair_index;
		next->side = side;
		next->parsed = parsed;
		bpf_tail_call(skb, &rest, *(volatile __u32 *)&next->index);
	}
lost:
	count->lost++;
	return said;
}

/*
 * One section for all hooks: a tail call works only between programs of the same attach type, and neither hook enforces
 * its own.
 */
SEC("tc")
int monitor_primary(struct __sk_buff *skb)
{
	return nk_observe(skb, NK_PRIMARY, 0);
}

SEC("tc")
int monitor_peer(struct __sk_buff *skb)
{
	return nk_observe(skb, NK_PEER, 0);
}

/* The second copies. */
SEC("?tc")
int monitor_primary_again(struct __sk_buff *skb)
{
	return nk_observe(skb, NK_PRIMARY, NK_SECOND_COPY);
}

SEC("?tc")
int monitor_peer_again(struct __sk_buff *skb)
{
	return nk_observe(skb, NK_PEER, NK_SECOND_COPY);
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
	bpf_ringbuf_submit_dynptr(&place, 0);	/* does nothing without room, but must be called */
	return has_room;
}

/* Completes the record and submits it; returns whether there was room. */
static __always_inline bool nk_finish(struct __sk_buff *skb, const struct nk_task *todo)
{
	bool parsed = snaplen && todo->parsed;
	struct nk_event *event;

	event = parsed ? (struct nk_event *)nk_scratch() : nk_begin(skb, todo->side, todo->pair, 0);
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
 * Handles a packet that is not plain, or whose data is wanted. One program for both sides of all pairs, because it takes
 * most of the loading time.
 */
SEC("tc")
int monitor_rest(struct __sk_buff *skb)
{
	__u32 key = 0;
	struct nk_task *todo = bpf_map_lookup_elem(&task, &key);
	struct nk_counts *count;

	if (!todo)
		return -1;
	if (!nk_finish(skb, todo)) {
		key = todo->count;
		count = bpf_map_lookup_elem(&counts, &key);
		if (count)
			count->lost++;
	}
	return todo->verdict;
}
