/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Reading what rules can ask of a packet. */
#ifndef NETKIT_BPF_FIREWALL_PACKET_H
#define NETKIT_BPF_FIREWALL_PACKET_H

#include <netkit_bpf/packet.h>
#include <netkit_bpf/firewall.h>

/* Zero, which a verifier does not know: what it is added to may be any number, in whichever way it came about. */
volatile __u32 zero SEC(".data") = 0;

/* What a rule can ask of a packet, but for its side. */
struct nk_packet {
	__u64 src[2], dst[2];	/* host byte order; IPv4 in the first */
	__u32 family;		/* enum nk_family */
	__u32 fragment;		/* enum nk_fragment */
	__u32 protocol;		/* or NK_FW_HIDDEN */
	__u32 src_port;		/* or NK_FW_ABSENT; ICMP's type */
	__u32 dst_port;		/* ICMP's code */
	__u32 tcp_flags;
	__u32 length;
};

static __always_inline __u64 nk_word(const __u8 *bytes)
{
	const __be32 *words = (const __be32 *)bytes;

	return (__u64)bpf_ntohl(words[0]) << 32 | bpf_ntohl(words[1]);
}

static __always_inline void nk_set_addresses6(struct nk_packet *packet, const __u8 *src, const __u8 *dst)
{
	packet->src[0] = nk_word(src);
	packet->src[1] = nk_word(src + 8);
	packet->dst[0] = nk_word(dst);
	packet->dst[1] = nk_word(dst + 8);
}

static __always_inline void nk_set_addresses4(struct nk_packet *packet, __be32 src, __be32 dst)
{
	packet->src[0] = bpf_ntohl(src);
	packet->dst[0] = bpf_ntohl(dst);
}

/* A plain packet; false of any other. */
static __always_inline bool nk_read_plain(struct __sk_buff *skb, struct nk_packet *packet)
{
	const __u8 *header;
	struct nk_plain plain;

	if (!nk_find_plain(skb, &plain))
		return false;
	header = plain.ip + plain.ip_len;
	if (plain.ip_len == sizeof(struct ipv6hdr)) {
		const struct ipv6hdr *ipv6 = (const void *)plain.ip;

		packet->family = NK_IPV6;
		packet->protocol = ipv6->nexthdr;
		nk_set_addresses6(packet, (const __u8 *)&ipv6->saddr, (const __u8 *)&ipv6->daddr);
	} else {
		const struct iphdr *ipv4 = (const void *)plain.ip;

		packet->family = NK_IPV4;
		packet->protocol = ipv4->protocol;
		nk_set_addresses4(packet, ipv4->saddr, ipv4->daddr);
	}
	packet->fragment = NK_WHOLE;
	packet->src_port = NK_FW_ABSENT;
	packet->dst_port = NK_FW_ABSENT;
	packet->tcp_flags = NK_FW_ABSENT;
	if (!plain.kind->length || plain.kind->length > plain.payload_len)
		return true;
	if (plain.kind->flags & NK_ICMP) {
		packet->src_port = header[0];
		packet->dst_port = header[1];
		return true;
	}
	packet->src_port = bpf_ntohs(((const __be16 *)header)[0]);
	packet->dst_port = bpf_ntohs(((const __be16 *)header)[1]);
	if (!(plain.kind->flags & NK_TCP))
		return true;
	header += NK_PORTS_LENGTH;
	if (header + sizeof(struct nk_tcp) > (const __u8 *)(long)skb->data_end)
		return false;
	packet->tcp_flags = ((const struct nk_tcp *)header)->flags;
	return true;
}

/* Any packet. */
__noinline int nk_read_any(struct __sk_buff *skb, struct nk_packet *packet)
{
	struct nk_event event = {};
	bool has_numbers;

	if (!packet)
		return 0;
	nk_read_packet(skb, &event);
	packet->family = event.ethertype == ETH_P_ARP ? NK_ARP : NK_OTHER;
	packet->protocol = NK_FW_HIDDEN;
	packet->fragment = NK_WHOLE;
	packet->src_port = NK_FW_ABSENT;
	packet->dst_port = NK_FW_ABSENT;
	packet->tcp_flags = NK_FW_ABSENT;
	if (!(event.flags & NK_IP))
		return 0;
	if (event.ethertype == ETH_P_IPV6) {
		packet->family = NK_IPV6;
		nk_set_addresses6(packet, event.src, event.dst);
	} else {
		packet->family = NK_IPV4;
		nk_set_addresses4(packet, *(__be32 *)event.src, *(__be32 *)event.dst);
	}
	if (event.flags & NK_PROTOCOL)
		packet->protocol = event.protocol;
	if (event.flags & NK_FRAGMENT)
		packet->fragment = event.fragment & 0xfff8 ? NK_LATER : NK_FIRST;
	has_numbers = event.flags & (NK_PORTS | NK_ICMP);
	if (has_numbers) {
		packet->src_port = event.src_port;
		packet->dst_port = event.dst_port;
	}
	if (event.flags & NK_TCP)
		packet->tcp_flags = event.tcp_flags;
	return 0;
}

/* Any packet, the quickest way that it can be read. */
static __always_inline void nk_read(struct __sk_buff *skb, struct nk_packet *packet)
{
	__u32 unknown = zero;

	if (!nk_read_plain(skb, packet))
		nk_read_any(skb, packet);
	packet->length = skb->len < NK_FW_ABSENT ? skb->len : NK_FW_ABSENT - 1;
	/* Else the verifier would follow the search once for each way in which a packet is read. */
	packet->family += unknown;
	packet->fragment += unknown;
	packet->protocol += unknown;
	packet->src_port += unknown;
	packet->dst_port += unknown;
	packet->tcp_flags += unknown;
	packet->length += unknown;
}

#endif
