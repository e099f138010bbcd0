// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * The program that tutorials show, for comparison: IPv6 only, each header field read by BPF_CORE_READ as if the packet were
 * a kernel structure that may move, and nothing counted.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "seed.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/* The kernel's own structures, as far as they are read; libbpf finds their members in the kernel's BTF. */
struct ethhdr___kernel {
	__be16 h_proto;
} __attribute__((preserve_access_index));

struct in6_addr___kernel {
	__u8 bytes[16];
};

struct ipv6hdr___kernel {
	__be16 payload_len;
	__u8 nexthdr;
	__u8 hop_limit;
	struct in6_addr___kernel saddr;
	struct in6_addr___kernel daddr;
} __attribute__((preserve_access_index));

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4 << 20);
} events SEC(".maps");

SEC("netkit/primary")
int seed(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data;
	void *data_end = (void *)(long)skb->data_end;
	struct ethhdr___kernel *ethernet = data;
	struct ipv6hdr___kernel *ip = data + ETH_HLEN;
	struct seed_event *event;

	if (data + ETH_HLEN + 40 > data_end)
		return 0;
	if (BPF_CORE_READ(ethernet, h_proto) != bpf_htons(ETH_P_IPV6))
		return 0;
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event)
		return 0;
	event->side = 0;
	bpf_core_read(event->src, 16, &ip->saddr);
	bpf_core_read(event->dst, 16, &ip->daddr);
	event->next_header = BPF_CORE_READ(ip, nexthdr);
	event->payload_len = bpf_ntohs(BPF_CORE_READ(ip, payload_len));
	event->hop_limit = BPF_CORE_READ(ip, hop_limit);
	bpf_ringbuf_submit(event, 0);
	return 0;
}
