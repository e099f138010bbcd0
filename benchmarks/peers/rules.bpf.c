// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * What a firewall is compared with: rules one after the other, and nothing but two look-ups in the kernel's own tries of
 * longest prefixes.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual MIT/GPL";

#define MOST 16384

struct rule {
	__u32 src, src_mask, dst, dst_mask;
	__u16 src_first, src_last, dst_first, dst_last;
	__u32 protocol, drop;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct rule[MOST]);
} rules SEC(".maps");

struct prefix {
	__u32 length;
	__u32 address;
};

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, MOST);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct prefix);
	__type(value, __u32);
} sources SEC(".maps"), targets SEC(".maps");

const volatile __u32 count;

struct search {
	const struct rule *rules;
	__u32 src, dst, src_port, dst_port, protocol;
	int verdict;
};

static long try_rule(__u32 index, void *context)
{
	struct search *search = context;
	const struct rule *rule;

	if (index >= MOST)
		return 1;
	rule = &search->rules[index];
	if ((search->src & rule->src_mask) != rule->src || (search->dst & rule->dst_mask) != rule->dst ||
	    (rule->protocol && rule->protocol != search->protocol) || search->src_port < rule->src_first ||
	    search->src_port > rule->src_last || search->dst_port < rule->dst_first || search->dst_port > rule->dst_last)
		return 0;
	search->verdict = rule->drop ? 2 : -1;
	return 1;
}

SEC("tc")
int linear(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data, *data_end = (void *)(long)skb->data_end;
	struct iphdr *ip = data + ETH_HLEN;
	__be16 *ports = (void *)(ip + 1);
	struct search search = { .verdict = 2 };
	__u32 key = 0;

	if ((void *)(ports + 2) > data_end)
		return -1;
	search.rules = bpf_map_lookup_elem(&rules, &key);
	if (!search.rules)
		return -1;
	search.src = bpf_ntohl(ip->saddr);
	search.dst = bpf_ntohl(ip->daddr);
	search.protocol = ip->protocol;
	search.src_port = bpf_ntohs(ports[0]);
	search.dst_port = bpf_ntohs(ports[1]);
	bpf_loop(count, try_rule, &search, 0);
	return search.verdict;
}

SEC("tc")
int tries(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data, *data_end = (void *)(long)skb->data_end;
	struct iphdr *ip = data + ETH_HLEN;
	struct prefix src = { 32 }, dst = { 32 };
	__u32 *left, *right;

	if ((void *)(ip + 1) > data_end)
		return -1;
	src.address = ip->saddr;
	dst.address = ip->daddr;
	left = bpf_map_lookup_elem(&sources, &src);
	right = bpf_map_lookup_elem(&targets, &dst);
	return left && right ? 2 : -1;
}
