// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * What flow metrics are compared with: flows in the kernel's own hashes, as others keep them. And the packets: `vary`
 * makes each one of another flow, at random, before it calls who counts.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "metrics/packet.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

#define SLOTS 65536

struct key {
	__be32 src, dst;
	__be16 src_port, dst_port;
	__u32 protocol;
};

struct counts {
	__u64 packets, bytes, first, last;
};

struct locked {
	struct bpf_spin_lock lock;
	__u32 unused;
	struct counts counts;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, SLOTS);
	__type(key, struct key);
	__type(value, struct counts);
} percpu SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, SLOTS);
	__type(key, struct key);
	__type(value, struct counts);
} lru SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, SLOTS);
	__type(key, struct key);
	__type(value, struct locked);
} shared SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
} next SEC(".maps");

const volatile __u32 flow_mask;	/* a power of two, less one */
__u32 state;

struct lines {
	__u64 words[48];	/* of a set, as large as <netkit_bpf/flow.h> has it */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SLOTS / 4);
	__type(key, __u32);
	__type(value, struct lines);
} sets SEC(".maps");

SEC("tc")
int vary(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data, *data_end = (void *)(long)skb->data_end;
	struct iphdr *ip = data + ETH_HLEN;

	if ((void *)(ip + 1) > data_end)
		return 0;
	state = state * 1664525 + 1013904223;
	ip->saddr = state >> 8 & flow_mask;
	bpf_tail_call(skb, &next, 0);
	return 0;
}

SEC("tc")
int nothing(struct __sk_buff *skb)
{
	return skb->len ? -1 : 0;
}

static __always_inline bool read(struct __sk_buff *skb, struct key *key)
{
	void *data = (void *)(long)skb->data, *data_end = (void *)(long)skb->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = data + ETH_HLEN;
	__be16 *ports = (void *)(ip + 1);

	if ((void *)(ports + 2) > data_end || eth->h_proto != bpf_htons(ETH_P_IP) || ip->ihl != 5)
		return false;
	key->src = ip->saddr;
	key->dst = ip->daddr;
	key->src_port = ports[0];
	key->dst_port = ports[1];
	key->protocol = ip->protocol;
	return true;
}

static __always_inline int count(struct __sk_buff *skb, void *map)
{
	__u64 now = bpf_jiffies64();
	struct counts begun = { 1, skb->len, now, now }, *found;
	struct key key;

	if (!read(skb, &key))
		return -1;
	found = bpf_map_lookup_elem(map, &key);
	if (!found) {
		bpf_map_update_elem(map, &key, &begun, BPF_ANY);
		return -1;
	}
	found->packets++;
	found->bytes += skb->len;
	found->last = now;
	return -1;
}

SEC("tc")
int count_percpu(struct __sk_buff *skb)
{
	return count(skb, &percpu);
}

SEC("tc")
int count_lru(struct __sk_buff *skb)
{
	return count(skb, &lru);
}

SEC("tc")
int count_locked(struct __sk_buff *skb)
{
	__u64 now = bpf_ktime_get_ns();
	struct locked begun = { .counts = { 1, skb->len, now, now } }, *found;
	struct key key;

	if (!read(skb, &key))
		return -1;
	found = bpf_map_lookup_elem(&shared, &key);
	if (!found) {
		bpf_map_update_elem(&shared, &key, &begun, BPF_ANY);
		return -1;
	}
	bpf_spin_lock(&found->lock);
	found->counts.packets++;
	found->counts.bytes += skb->len;
	found->counts.last = now;
	bpf_spin_unlock(&found->lock);
	return -1;
}

/* Two lines of memory, and nothing compared or kept: of a set, and of a flow in it. */
SEC("tc")
int touch(struct __sk_buff *skb)
{
	struct key key = {};
	struct lines *set;
	__u32 index;

	if (!read(skb, &key))
		return -1;
	index = key.src * 0x9e3779b1 >> 16 & (SLOTS / 4 - 1);
	set = bpf_map_lookup_elem(&sets, &index);
	if (set) {
		set->words[0]++;
		set->words[8 + (key.src & 3) * 8]++;
	}
	return -1;
}

/* The same after the key was read that ours has, of any IPv4 or IPv6 packet, and hashed by one product. */
SEC("tc")
int touch_by_key(struct __sk_buff *skb)
{
	struct nk_counted packet;
	struct lines *set;
	__u32 index;

	if (!nk_read_plain(skb, &packet, 0))
		return -1;
	index = (packet.words[0] ^ packet.words[1] ^ packet.words[2] ^ packet.words[3] ^ packet.words[4]) *
		0x9e3779b97f4a7c15ULL >> 40 & (SLOTS / 4 - 1);
	set = bpf_map_lookup_elem(&sets, &index);
	if (set) {
		set->words[0]++;
		set->words[8 + (packet.tcp_flags & 3) * 8]++;
	}
	return -1;
}
