/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Of the load balancer: ICMP errors, which go where the packet that they quote came from. */
#ifndef NETKIT_BPF_BALANCER_ICMP_H
#define NETKIT_BPF_BALANCER_ICMP_H

#include "rewriting.h"

/* Of what an error quotes: the packet that it is about, which went the other way. */
struct nk_quote {
	struct nk_key key;
	__be32 service[4];
	__be16 service_port;
	__u32 ports;		/* where its ports are */
};

static __always_inline bool nk_is_error(__u8 type)
{
	if (is_ipv6)
		return type >= 1 && type <= 4;		/* RFC 4443 section 2.1 */
	return type == 3 || type == 11 || type == 12;	/* RFC 792: unreachable, time exceeded, parameter problem */
}

/* Reads what the error at @offset quotes; returns whether it is of our protocol and has ports. */
static __always_inline bool nk_read_quote(struct __sk_buff *skb, __u32 offset, struct nk_quote *quote,
					  const bool from_client)
{
	__u32 inner = offset + ICMP_HEADER;
	__be16 ports[2];
	__u8 type;

	if (bpf_skb_load_bytes(skb, offset, &type, sizeof(type)) || !nk_is_error(type))
		return false;
	if (is_ipv6) {
		struct ipv6hdr ip;

		if (bpf_skb_load_bytes(skb, inner, &ip, sizeof(ip)) ||
		    ip.nexthdr != (is_tcp ? IPPROTO_TCP : IPPROTO_UDP))
			return false;
		__builtin_memcpy(quote->service, from_client ? &ip.saddr : &ip.daddr, 16);
		__builtin_memcpy(&quote->key.high, from_client ? &ip.daddr : &ip.saddr, 16);
		quote->ports = inner + sizeof(ip);
	} else {
		struct iphdr ip;

		if (bpf_skb_load_bytes(skb, inner, &ip, sizeof(ip)) ||
		    ip.protocol != (is_tcp ? IPPROTO_TCP : IPPROTO_UDP) || ip.frag_off & bpf_htons(IPV4_OFFSET))
			return false;
		quote->service[0] = from_client ? ip.saddr : ip.daddr;
		quote->key.low = from_client ? ip.daddr : ip.saddr;
		quote->ports = inner + (*(__u8 *)&ip & 0xf) * 4;
	}
	if (bpf_skb_load_bytes(skb, quote->ports, ports, sizeof(ports)))
		return false;
	quote->service_port = ports[!from_client];
	quote->key.port = ports[from_client];
	nk_set_hash(&quote->key);
	return true;
}

/*
 * Puts an address and port in the place of the service's, in what an error quotes and, with @outer, in its own header.
 * The quoted transport checksum stays as it is, as nobody can verify it: most of the packet is missing.
 */
static __always_inline void nk_translate_error(struct __sk_buff *skb, __u32 offset, const struct nk_quote *quote,
					       const __be32 *address, __be16 port, __u32 sum, const bool outer,
					       const bool from_client)
{
	__u32 inner = offset + ICMP_HEADER, check = offset + 2, size = is_ipv6 ? 16 : 4;
	__u32 src = is_ipv6 ? offsetof(struct ipv6hdr, saddr) : offsetof(struct iphdr, saddr);
	__u32 dst = src + size;
	__be16 quoted;

	bpf_skb_store_bytes(skb, inner + (from_client ? src : dst), address, size, 0);
	if (is_ipv6) {
		bpf_l4_csum_replace(skb, check, 0, sum, 0);
	} else if (!bpf_skb_load_bytes(skb, inner + offsetof(struct iphdr, check), &quoted, sizeof(quoted))) {
		/* the message's own checksum stays, as that of the quoted header makes up for the address */
		quoted = nk_checksum(quoted, sum);
		bpf_skb_store_bytes(skb, inner + offsetof(struct iphdr, check), &quoted, sizeof(quoted), 0);
	}
	if (port != quote->service_port) {
		bpf_skb_store_bytes(skb, quote->ports + (from_client ? 0 : sizeof(port)), &port, sizeof(port), 0);
		bpf_l4_csum_replace(skb, check, quote->service_port, port, sizeof(port));
	}
	if (!outer)
		return;
	bpf_skb_store_bytes(skb, ETH_HLEN + (from_client ? dst : src), address, size, 0);
	if (is_ipv6)
		bpf_l4_csum_replace(skb, check, 0, sum, BPF_F_PSEUDO_HDR);
	else
		bpf_l3_csum_replace(skb, ETH_HLEN + offsetof(struct iphdr, check), 0, sum, 0);
}

static __always_inline bool nk_is_at(const __be32 *address, const struct nk_lb_backend *backend)
{
	const __be32 *own = (const __be32 *)backend->address;

	if (!is_ipv6)
		return address[0] == own[0];
	return address[0] == own[0] && address[1] == own[1] && address[2] == own[2] && address[3] == own[3];
}

/* An error about a reply, to the virtual address: it goes to the backend that replied. Returns the verdict. */
__noinline int nk_error_to_backend(struct __sk_buff *skb, __u32 offset)
{
	struct nk_quote quote = {};
	struct nk_lb_backend *backend;
	struct nk_place place;

	if (!nk_read_quote(skb, offset, &quote, true) || !nk_is_vip(quote.service) || quote.service_port != vip_port)
		return VERDICT_NEXT;
	backend = nk_backend_at(nk_find(&quote.key, &place) ? nk_backend_of(place.word) : nk_pick(quote.key.hash));
	if (!backend)
		return VERDICT_NEXT;
	nk_tell(NK_LB_ICMP);
	if (!is_dsr)
		nk_translate_error(skb, offset, &quote, (const __be32 *)backend->address, backend->port,
				   backend->to_sum, true, true);
	return nk_send(skb, backend->ifindex, &backend->macs);
}

/* An error about a packet to the service, from the backend or a router behind it: it goes to the client. */
__noinline int nk_error_to_client(struct __sk_buff *skb, __u32 offset)
{
	__be32 address[4] = { vip[0], vip[1], vip[2], vip[3] }, source[4] = {};
	struct nk_quote quote = {};
	struct nk_lb_backend *backend;
	struct nk_place place;

	if (!nk_read_quote(skb, offset, &quote, false))
		return VERDICT_NEXT;
	backend = nk_backend_at(nk_find(&quote.key, &place) ? nk_backend_of(place.word) :
							      nk_backend_behind(skb, &quote.key));
	if (!backend || !nk_is_at(quote.service, backend) || quote.service_port != backend->port ||
	    skb->ifindex != backend->ifindex ||
	    bpf_skb_load_bytes(skb, ETH_HLEN + (is_ipv6 ? offsetof(struct ipv6hdr, saddr) : offsetof(struct iphdr, saddr)),
			       source, is_ipv6 ? 16 : 4))
		return VERDICT_NEXT;
	if (!is_dsr)
		nk_translate_error(skb, offset, &quote, address, vip_port, backend->from_sum,
				   nk_is_at(source, backend), false);
	nk_tell(NK_LB_ICMP);
	return nk_send(skb, client_ifindex, &client_macs);
}

#endif
