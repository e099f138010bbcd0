/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Of the load balancer: what it reads of a packet, and what it writes. */
#ifndef NETKIT_BPF_BALANCER_REWRITING_H
#define NETKIT_BPF_BALANCER_REWRITING_H

#include "connections.h"

/* --- Reading a packet. --- */

enum nk_kind {
	NK_NOT_OURS,
	NK_SERVICE,		/* of the service's protocol */
	NK_PART,		/* a first fragment of that */
	NK_ERROR,		/* perhaps an ICMP error about it */
};

/* Where things are, and what is read of them. The service is the packet's destination, or a reply's source. */
struct nk_packet {
	struct nk_key key;
	__be32 service[4];	/* IPv4 in the first */
	__be16 service_port;
	__u32 offset;		/* of the transport header */
	enum nk_kind kind;
};

#define NK_FARTHEST 512		/* of a transport header that a verifier follows pointers to */
#define NK_NEEDED (is_tcp ? sizeof(struct tcphdr) : sizeof(struct udphdr))

/* Makes the packet's first bytes linear; returns whether they are. */
static __always_inline bool nk_pull(struct __sk_buff *skb, __u32 length)
{
	if ((long)skb->data + length <= (long)skb->data_end)
		return true;
	return length <= skb->len && !bpf_skb_pull_data(skb, length);
}

/* Where the transport header behind IPv6's extension headers is; 0 if there is none to be seen. */
__noinline int nk_follow(struct __sk_buff *skb, struct nk_chain *chain)
{
	struct nk_walk walk = { .skb = skb };

	if (!chain)
		return 0;
	walk.chain = *chain;
	bpf_loop(NK_MAX_EXTENSIONS + 1, nk_walk_on, &walk, 0);
	*chain = walk.chain;
	return 0;
}

static __always_inline bool nk_is_vip(const __be32 *address)
{
	if (!is_ipv6)
		return address[0] == vip[0];
	return address[0] == vip[0] && address[1] == vip[1] && address[2] == vip[2] && address[3] == vip[3];
}

static __always_inline void nk_read_ipv4(struct __sk_buff *skb, struct nk_packet *packet, const bool from_client)
{
	const struct iphdr *ip = (const void *)(long)skb->data + ETH_HLEN;
	__u32 length;

	if ((long)(ip + 1) > (long)skb->data_end)
		return;
	packet->service[0] = from_client ? ip->daddr : ip->saddr;
	packet->key.low = from_client ? ip->saddr : ip->daddr;
	if (from_client && !nk_is_vip(packet->service))
		return;
	length = (*(const __u8 *)ip & 0xf) * 4;
	if (*(const __u8 *)ip >> 4 != 4 || length < sizeof(*ip) || ip->frag_off & bpf_htons(IPV4_OFFSET))
		return;
	packet->offset = ETH_HLEN + length;
	if (ip->protocol == (is_tcp ? IPPROTO_TCP : IPPROTO_UDP))
		packet->kind = ip->frag_off & bpf_htons(IPV4_FRAGMENT) ? NK_PART : NK_SERVICE;
	else if (ip->protocol == IPPROTO_ICMP)
		packet->kind = NK_ERROR;
}

static __always_inline void nk_read_ipv6(struct __sk_buff *skb, struct nk_packet *packet, const bool from_client)
{
	const struct ipv6hdr *ip = (const void *)(long)skb->data + ETH_HLEN;
	const __u64 *client;
	__u32 protocol;

	if ((long)(ip + 1) > (long)skb->data_end || *(const __u8 *)ip >> 4 != 6)
		return;
	__builtin_memcpy(packet->service, from_client ? &ip->daddr : &ip->saddr, 16);
	client = (const __u64 *)(from_client ? &ip->saddr : &ip->daddr);
	__builtin_memcpy(&packet->key.high, client, 16);
	protocol = ip->nexthdr;
	if (from_client && !nk_is_vip(packet->service))
		return;
	packet->offset = ETH_HLEN + sizeof(*ip);
	if (protocol != (is_tcp ? IPPROTO_TCP : IPPROTO_UDP) && protocol != IPPROTO_ICMPV6) {
		struct nk_chain chain = { .offset = packet->offset, .end = skb->len, .next_header = protocol };

		if (!nk_headers[NK_IPV6_HEADERS + (protocol & 255)].extension)
			return;
		nk_follow(skb, &chain);
		if (!chain.transport || chain.offset > NK_FARTHEST)
			return;
		packet->offset = chain.offset;
		protocol = chain.next_header;
		if (chain.flags & NK_FRAGMENT && chain.fragment & 0xfff9) {
			if (protocol == (is_tcp ? IPPROTO_TCP : IPPROTO_UDP))
				packet->kind = NK_PART;
			return;
		}
	}
	if (protocol == (is_tcp ? IPPROTO_TCP : IPPROTO_UDP))
		packet->kind = NK_SERVICE;
	else if (protocol == IPPROTO_ICMPV6)
		packet->kind = NK_ERROR;
}

/* The transport header; NULL if it is cut. It is linear then. */
static __always_inline __u8 *nk_transport(struct __sk_buff *skb, __u32 offset, __u32 length)
{
	__u8 *header;

	if (offset > NK_FARTHEST || !nk_pull(skb, offset + length))
		return NULL;
	header = (__u8 *)(long)skb->data + offset;
	return header + length <= (__u8 *)(long)skb->data_end ? header : NULL;
}

static __always_inline void nk_read(struct __sk_buff *skb, struct nk_packet *packet, const bool from_client)
{
	const struct ethhdr *eth = (const void *)(long)skb->data;
	__be16 client_port;
	const __u8 *header;

	if ((long)(eth + 1) > (long)skb->data_end || skb->vlan_present ||
	    eth->h_proto != (is_ipv6 ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_IP)) ||
	    !nk_pull(skb, ETH_HLEN + (is_ipv6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr))))
		return;
	if (is_ipv6)
		nk_read_ipv6(skb, packet, from_client);
	else
		nk_read_ipv4(skb, packet, from_client);
	if (packet->kind != NK_SERVICE && packet->kind != NK_PART)
		return;
	header = nk_transport(skb, packet->offset, NK_NEEDED);
	if (!header) {
		packet->kind = NK_NOT_OURS;
		return;
	}
	packet->service_port = ((const __be16 *)header)[from_client];
	client_port = ((const __be16 *)header)[!from_client];
	packet->key.port = client_port;
	packet->key.tcp_flags = is_tcp ? header[13] : 0;
	if ((from_client || is_dsr) && (packet->service_port != vip_port || !nk_is_vip(packet->service)))
		packet->kind = NK_NOT_OURS;
}

/* --- Writing a packet. --- */

static __always_inline void nk_write_macs(void *data, const volatile struct nk_lb_macs *macs)
{
	const volatile __u16 *words = (const volatile __u16 *)macs;
	__u16 *to = data;

	for (int i = 0; i < 6; i++)
		to[i] = words[i];
}

/* The checksum of a header that has become larger by @sum (RFC 1624). */
static __always_inline __u16 nk_checksum(__u16 old, __u32 sum)
{
	sum += (__u16)~old;
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

/*
 * Puts @address and @port in the place of the service's, and sets both MACs. Addresses are written first, as a helper
 * takes the pointers away.
 *
 * Where a device is to complete the checksum, it holds the sum of the addresses alone: hence BPF_F_PSEUDO_HDR for these
 * and none for ports. Packets whose sum the kernel keeps (CHECKSUM_COMPLETE) do not come here: forwarding ends that
 * (skb_forward_csum()).
 */
static __always_inline bool nk_translate(struct __sk_buff *skb, __u32 offset, const volatile struct nk_lb_macs *macs,
					 const volatile __be32 *address, __be16 port, __u32 sum, const bool from_client)
{
	__u32 place = offset + (is_tcp ? offsetof(struct tcphdr, check) : offsetof(struct udphdr, check));
	__u64 mangled = is_tcp ? 0 : BPF_F_MARK_MANGLED_0;
	__u8 *header = nk_transport(skb, offset, NK_NEEDED);
	__u8 *data = (__u8 *)(long)skb->data;
	__be16 *ports, old;

	if (!header || data + ETH_HLEN + (is_ipv6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr)) >
			       (__u8 *)(long)skb->data_end)
		return false;
	nk_write_macs(data, macs);
	if (is_ipv6) {
		struct ipv6hdr *ip = (void *)(data + ETH_HLEN);

		struct in6_addr *to = from_client ? &ip->daddr : &ip->saddr;

		for (int i = 0; i < 4; i++)
			to->s6_addr32[i] = address[i];
	} else {
		struct iphdr *ip = (void *)(data + ETH_HLEN);

		*(from_client ? &ip->daddr : &ip->saddr) = address[0];
		ip->check = nk_checksum(ip->check, sum);
	}
	ports = (__be16 *)header;
	old = ports[from_client];
	ports[from_client] = port;
	if (bpf_l4_csum_replace(skb, place, 0, sum, BPF_F_PSEUDO_HDR | mangled))
		return false;
	return old == port || !bpf_l4_csum_replace(skb, place, old, port, sizeof(port) | mangled);
}

static __always_inline int nk_send(struct __sk_buff *skb, __u32 ifindex, const volatile struct nk_lb_macs *macs)
{
	void *data = (void *)(long)skb->data;

	if (data + ETH_HLEN > (void *)(long)skb->data_end)
		return VERDICT_DROP;
	nk_write_macs(data, macs);
	return bpf_redirect(ifindex, 0);
}

#endif
