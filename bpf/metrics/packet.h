/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* What is counted of a packet, and of which flow it is. */
#ifndef NETKIT_BPF_METRICS_PACKET_H
#define NETKIT_BPF_METRICS_PACKET_H

#include <netkit_bpf/packet.h>
#include <netkit_bpf/flow.h>

const volatile __u16 pair_index;

#define TCP_SYN 0x02
#define TCP_ACK 0x10

_Static_assert((int)NK_FLOW_PROTOCOL == (int)NK_PROTOCOL && (int)NK_FLOW_PORTS == (int)NK_PORTS &&
	       (int)NK_FLOW_TCP == (int)NK_TCP && (int)NK_FLOW_ICMP == (int)NK_ICMP, "the same bits");

/* A packet: its flow, and where that belongs. */
struct nk_counted {
	union {
		struct nk_flow_key key;
		__u64 words[5];
	};
	__u32 tcp_flags;
	__u32 set;		/* its number, over all CPUs */
	__u16 tag;
};

/*
 * Words of a key are put together in registers: what is stored in parts and loaded as a whole waits until all parts have
 * left the processor, which costs as much as the rest of the count.
 */
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define NK_AT_BIT(value, size, place) ((__u64)(value) << (place))
#else
#define NK_AT_BIT(value, size, place) ((__u64)(value) << (64 - (size) - (place)))
#endif

static __always_inline __u64 nk_address_word(const void *address)
{
	const __u32 *parts = address;

	return NK_AT_BIT(parts[0], 32, 0) | NK_AT_BIT(parts[1], 32, 32);
}

/* A plain packet; false of any other. */
static __always_inline bool nk_read_plain(struct __sk_buff *skb, struct nk_counted *packet, __u32 flags)
{
	const __u8 *header;
	struct nk_plain plain;
	__u32 protocol, ports = 0;

	if (!nk_find_plain(skb, &plain))
		return false;
	header = plain.ip + plain.ip_len;
	if (plain.ip_len == sizeof(struct ipv6hdr)) {
		const struct ipv6hdr *ipv6 = (const void *)plain.ip;

		protocol = ipv6->nexthdr;
		packet->words[0] = nk_address_word(&ipv6->saddr);
		packet->words[1] = nk_address_word(&ipv6->saddr.in6_u.u6_addr32[2]);
		packet->words[2] = nk_address_word(&ipv6->daddr);
		packet->words[3] = nk_address_word(&ipv6->daddr.in6_u.u6_addr32[2]);
		flags |= NK_FLOW_IPV6 | NK_FLOW_PROTOCOL;
	} else {
		const struct iphdr *ipv4 = (const void *)plain.ip;

		protocol = ipv4->protocol;
		packet->words[0] = NK_AT_BIT(ipv4->saddr, 32, 0);
		packet->words[1] = 0;
		packet->words[2] = NK_AT_BIT(ipv4->daddr, 32, 0);
		packet->words[3] = 0;
		flags |= NK_FLOW_IPV4 | NK_FLOW_PROTOCOL;
	}
	packet->tcp_flags = 0;
	if (plain.kind->length && plain.kind->length <= plain.payload_len) {
		ports = *(const __u32 *)header;
		if (plain.kind->flags & NK_ICMP)
			ports &= bpf_htonl(0xffff0000);
		if (plain.kind->flags & NK_TCP) {
			const struct nk_tcp *tcp = (const void *)(header + NK_PORTS_LENGTH);

			if ((const void *)(tcp + 1) > (const void *)(long)skb->data_end)
				return false;
			packet->tcp_flags = tcp->flags;
		}
		flags |= plain.kind->flags;
	}
	packet->words[4] = NK_AT_BIT(ports, 32, 0) | NK_AT_BIT(pair_index, 16, 32) | NK_AT_BIT(protocol, 8, 48) |
			   NK_AT_BIT(flags, 8, 56);
	return true;
}

/* Any packet. */
__noinline int nk_read_any(struct __sk_buff *skb, struct nk_counted *packet, __u32 flags)
{
	struct nk_event event = {};
	struct nk_flow_key *key;

	if (!packet)
		return 0;
	nk_read_packet(skb, &event);
	key = &packet->key;
	__builtin_memcpy(key->src, event.src, sizeof(key->src));
	__builtin_memcpy(key->dst, event.dst, sizeof(key->dst));
	if (event.flags & NK_ICMP) {
		key->src_port = bpf_htons(event.src_port << 8 | event.dst_port);
	} else {
		key->src_port = bpf_htons(event.src_port);
		key->dst_port = bpf_htons(event.dst_port);
	}
	if (!(event.flags & NK_IP))
		key->src_port = bpf_htons(event.ethertype);
	else
		flags |= event.ethertype == ETH_P_IPV6 ? NK_FLOW_IPV6 : NK_FLOW_IPV4;
	flags |= event.flags & (NK_FLOW_PROTOCOL | NK_FLOW_PORTS | NK_FLOW_TCP | NK_FLOW_ICMP);
	key->protocol = event.protocol;
	key->flags = flags;
	packet->tcp_flags = event.tcp_flags;
	return 0;
}

#endif
