# SPDX-License-Identifier: MIT
"""An object with a map of nearly every type, and a program that fills some of them."""

from __future__ import annotations

from netkit_bpf import BPFObject
from programs import HEADER

SOURCE = (
    HEADER
    + """
struct address { __u8 bytes[4]; __u16 port; __u8 protocol; __u8 : 8; };
struct flow { __u64 packets, bytes; enum { IDLE, ACTIVE = 5 } state; __u32 low : 4, high : 12; };
struct prefix { __u32 length; __u8 address[4]; };

#define MAP(name_, type_, entries_, key_, value_) \\
	struct { __uint(type, BPF_MAP_TYPE_##type_); __uint(max_entries, entries_); \\
		__type(key, key_); __type(value, value_); } name_ SEC(".maps")
#define BAG(name_, type_, entries_, value_) \\
	struct { __uint(type, BPF_MAP_TYPE_##type_); __uint(max_entries, entries_); __type(value, value_); } \\
		name_ SEC(".maps")

MAP(flows, HASH, 8, struct address, struct flow);
MAP(large, HASH, 20000, __u64, __u32);
MAP(table, ARRAY, 4, __u32, struct flow);
MAP(seen, PERCPU_ARRAY, 2, __u32, __u32);
MAP(sizes, PERCPU_HASH, 8, __u32, struct flow);
MAP(recent, LRU_HASH, 64, __u32, __u32);
BAG(queue, QUEUE, 3, struct flow);
BAG(stack, STACK, 3, __u32);
BAG(filter, BLOOM_FILTER, 100, __u32);
struct { __uint(type, BPF_MAP_TYPE_LPM_TRIE); __uint(map_flags, BPF_F_NO_PREALLOC); __uint(max_entries, 600);
	__type(key, struct prefix); __type(value, __u32); } routes SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 4);
	__uint(key_size, 4); __uint(value_size, 6); } untyped SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } ring SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY); __uint(key_size, 4); __uint(value_size, 4); } perf SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PROG_ARRAY); __uint(max_entries, 2);
	__uint(key_size, 4); __uint(value_size, 4); } next SEC(".maps");

struct counter { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 2); __type(key, __u32); __type(value, __u64); };
struct counter one SEC(".maps"), other SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS); __uint(max_entries, 3); __type(key, __u32);
	__array(values, struct counter); } tables SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_HASH_OF_MAPS); __uint(max_entries, 3); __type(key, __u64);
	__array(values, struct counter); } named SEC(".maps");

SEC("netkit/peer") int count(struct __sk_buff *skb)
{
	__u32 zero = 0, *seen_, length = skb->len;
	struct flow *flow, fresh = { .packets = 1, .state = ACTIVE, .low = 3, .high = 1000 };
	struct counter *inner;
	__u64 *counter_;

	if ((seen_ = bpf_map_lookup_elem(&seen, &zero)))
		(*seen_)++;
	bpf_map_update_elem(&sizes, &length, &fresh, BPF_ANY);
	if ((flow = bpf_map_lookup_elem(&table, &zero)))
		flow->packets++;
	bpf_map_push_elem(&queue, &fresh, BPF_ANY);
	if ((inner = bpf_map_lookup_elem(&tables, &zero)) && (counter_ = bpf_map_lookup_elem(inner, &zero)))
		(*counter_)++;
	bpf_tail_call(skb, &next, 0);
	return -1;
}

SEC("netkit/peer") int dropper(struct __sk_buff *skb) { return 2; }
"""
)
ADDRESS = (b"\x0a\0\0\1", 80, 6)
FLOW = (1, 2, "ACTIVE", 3, 4)
PACKET = bytes(60)


def run(loaded: BPFObject, times: int = 1) -> None:
    for _ in range(times):
        loaded.programs["count"].test_run(PACKET)
