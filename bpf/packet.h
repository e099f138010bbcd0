/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Parsing of a packet into a record.
 *
 * A netkit hook sees an Ethernet header in L2 and in L3 mode alike. Only those first 14 bytes are sure
 * to be linear, so each header is read in place when it is linear and copied when it is not; the packet
 * itself is never touched (bpf_skb_pull_data would reshape it).
 */
#ifndef NETKIT_BPF_PACKET_H
#define NETKIT_BPF_PACKET_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "event.h"

#define NK_MAX_VLAN_TAGS 2
#define NK_MAX_EXTENSIONS 8	/* RFC 8200 section 4.1 names seven occurrences at most */
#define NK_MAX_OFFSET 0x7fff	/* what the verifier must believe of an offset into the packet */

struct nk_vlan_tag {
	__be16 tci;
	__be16 ethertype;
};

struct nk_extension {		/* the part that all IPv6 extension headers share */
	__u8 next_header;
	__u8 length;
	__be16 fragment;	/* of a fragment header */
};

/* Where parsing stands: the next header begins at @offset, the packet that IP speaks of ends at @end. */
struct nk_cursor {
	__u32 offset;
	__u32 end;
};

/* The @len bytes at @offset: in place if they are linear, else copied to @copy; NULL if they are not there. */
static __always_inline const void *nk_read(struct __sk_buff *skb, __u32 offset, void *copy, __u32 len)
{
	void *data = (void *)(long)skb->data;
	void *data_end = (void *)(long)skb->data_end;

	if (offset > NK_MAX_OFFSET)
		return NULL;
	if (data + offset + len <= data_end)
		return data + offset;
	if (bpf_skb_load_bytes(skb, offset, copy, len))
		return NULL;
	return copy;
}

/* How much of a transport header must be there to be read; 0: none that is known. */
static __always_inline __u32 nk_transport_len(const struct nk_event *event)
{
	switch (event->protocol) {
	case IPPROTO_TCP:
		return sizeof(struct tcphdr);
	case IPPROTO_UDP:
	case IPPROTO_UDPLITE:
		return sizeof(struct udphdr);
	case IPPROTO_SCTP:
	case IPPROTO_DCCP:
		return 12;
	case IPPROTO_ICMP:	/* each of these two belongs to one family only */
		return event->ethertype == ETH_P_IP ? 4 : 0;
	case IPPROTO_ICMPV6:
		return event->ethertype == ETH_P_IPV6 ? 4 : 0;
	default:
		return 0;
	}
}

__noinline int nk_read_transport(struct __sk_buff *skb, struct nk_event *event, __u32 offset, __u32 end)
{
	void *data = (void *)(long)skb->data;
	void *data_end = (void *)(long)skb->data_end;
	__u32 len;
	union {
		__u8 bytes[sizeof(struct tcphdr)];
		__be16 ports[2];
	} copy = {}, *header = &copy;

	if (!event)
		return 0;
	len = nk_transport_len(event);
	if (!len || offset > NK_MAX_OFFSET || offset + len > end)
		return 0;
	if (data + offset + sizeof(copy) <= data_end)
		header = data + offset;
	else if (bpf_skb_load_bytes(skb, offset, &copy, len))
		return 0;

	if (len == 4) {
		event->src_port = header->bytes[0];
		event->dst_port = header->bytes[1];
		event->flags |= NK_ICMP;
		return 0;
	}
	event->src_port = bpf_ntohs(header->ports[0]);
	event->dst_port = bpf_ntohs(header->ports[1]);
	event->flags |= NK_PORTS;
	if (len == sizeof(struct tcphdr)) {
		event->tcp_flags = header->bytes[13];
		event->flags |= NK_TCP;
	}
	return 0;
}

static __always_inline bool nk_is_extension(__u8 next_header)
{
	return next_header == IPPROTO_HOPOPTS || next_header == IPPROTO_ROUTING || next_header == IPPROTO_FRAGMENT ||
	       next_header == IPPROTO_DSTOPTS || next_header == IPPROTO_AH;
}

struct nk_chain {
	struct __sk_buff *skb;
	struct nk_cursor cursor;
	__u16 fragment;
	__u8 next_header;
	__u8 flags;
	bool transport;		/* a transport header follows */
};

/* One extension header; returns 1 to stop. */
static long nk_next_extension(__u32 index, void *ctx)
{
	struct nk_chain *chain = ctx;
	struct nk_extension extension;
	__u32 length;

	if (!nk_is_extension(chain->next_header)) {
		chain->flags |= NK_PROTOCOL;
		chain->transport = true;
		return 1;
	}
	/* no extension header is shorter than eight bytes */
	if (index == NK_MAX_EXTENSIONS || chain->cursor.offset + 8 > chain->cursor.end ||
	    bpf_skb_load_bytes(chain->skb, chain->cursor.offset, &extension, sizeof(extension)))
		return 1;

	length = (extension.length + 1) * 8;
	if (chain->next_header == IPPROTO_AH)
		length = (extension.length + 2) * 4;
	if (chain->next_header == IPPROTO_FRAGMENT)
		length = 8;
	if (chain->cursor.offset + length > chain->cursor.end)	/* cut: what would follow it is not there */
		return 1;
	if (chain->next_header == IPPROTO_FRAGMENT) {
		chain->fragment = bpf_ntohs(extension.fragment) & 0xfff9;
		chain->flags |= NK_FRAGMENT;
	}
	chain->cursor.offset += length;
	chain->next_header = extension.next_header;
	if (chain->fragment & 0xfff8) {		/* not the first fragment: what follows is payload */
		chain->flags |= NK_PROTOCOL;
		return 1;
	}
	return 0;
}

/*
 * Follow the extension headers that the kernel's own ipv6_ext_hdr() knows, up to NK_MAX_EXTENSIONS.
 * Returns whether a transport header follows: not where the chain is cut or too long, nor in a later
 * fragment. bpf_loop(), because the verifier walks its body once, and an unrolled loop eight times over.
 */
static __always_inline bool nk_read_extensions(struct __sk_buff *skb, struct nk_event *event,
					       struct nk_cursor *cursor)
{
	struct nk_chain chain = {
		.skb = skb,
		.cursor = *cursor,
		.next_header = event->next_header,
	};

	bpf_loop(NK_MAX_EXTENSIONS + 1, nk_next_extension, &chain, 0);
	if (chain.flags & NK_PROTOCOL)
		event->protocol = chain.next_header;
	event->flags |= chain.flags;
	event->fragment = chain.fragment;
	cursor->offset = chain.cursor.offset;
	return chain.transport;
}

static __always_inline void nk_read_ipv6(struct __sk_buff *skb, struct nk_event *event, struct nk_cursor *cursor)
{
	struct ipv6hdr copy;
	const struct ipv6hdr *ip = nk_read(skb, cursor->offset, &copy, sizeof(copy));
	__u32 word, rest;

	if (!ip)
		return;
	word = bpf_ntohl(*(const __be32 *)ip);
	if (word >> 28 != 6)
		return;
	cursor->offset += sizeof(copy);
	rest = skb->len - cursor->offset;

	event->flags |= NK_IP;
	event->ip_word = word;
	event->payload_len = bpf_ntohs(ip->payload_len);
	event->next_header = ip->nexthdr;
	event->hop_limit = ip->hop_limit;
	__builtin_memcpy(event->src, &ip->saddr, 16);
	__builtin_memcpy(event->dst, &ip->daddr, 16);

	/* a jumbogram (RFC 2675) or BIG TCP: the field of 16 bits says 0, the skb knows */
	if (!event->payload_len && (skb->gso_size || (event->next_header == IPPROTO_HOPOPTS && rest > 0xffff)))
		event->payload_len = rest;
	cursor->end = cursor->offset + (event->payload_len < rest ? event->payload_len : rest);

	if (nk_is_extension(event->next_header)) {
		if (!nk_read_extensions(skb, event, cursor))
			return;
	} else {
		event->protocol = event->next_header;
		event->flags |= NK_PROTOCOL;
	}
	nk_read_transport(skb, event, cursor->offset, cursor->end);
}

static __always_inline void nk_read_ipv4(struct __sk_buff *skb, struct nk_event *event, struct nk_cursor *cursor)
{
	struct iphdr copy;
	const struct iphdr *ip = nk_read(skb, cursor->offset, &copy, sizeof(copy));
	__u32 header_len, total_len, rest;
	__u16 fragment;

	if (!ip)
		return;
	header_len = (*(const __u8 *)ip & 0xf) * 4;
	total_len = bpf_ntohs(ip->tot_len);
	rest = skb->len - cursor->offset;
	if (!total_len && skb->gso_size)	/* BIG TCP */
		total_len = rest;
	if (*(const __u8 *)ip >> 4 != 4 || header_len < sizeof(copy) || total_len < header_len)
		return;

	event->flags |= NK_IP | NK_PROTOCOL;
	event->ip_word = 4u << 28 | (__u32)ip->tos << 20;
	event->payload_len = total_len - header_len;
	event->next_header = ip->protocol;
	event->protocol = ip->protocol;
	event->hop_limit = ip->ttl;
	__builtin_memcpy(event->src, &ip->saddr, 4);
	__builtin_memcpy(event->dst, &ip->daddr, 4);

	fragment = bpf_ntohs(ip->frag_off);
	cursor->end = cursor->offset + (total_len < rest ? total_len : rest);
	cursor->offset += header_len;
	if (fragment & 0x3fff) {
		event->fragment = (fragment & 0x1fff) << 3 | !!(fragment & 0x2000);
		event->flags |= NK_FRAGMENT;
		if (fragment & 0x1fff)
			return;
	}
	nk_read_transport(skb, event, cursor->offset, cursor->end);
}

__noinline int nk_read_ip(struct __sk_buff *skb, struct nk_event *event, __u32 offset)
{
	struct nk_cursor cursor = { .offset = offset };

	if (!event)
		return 0;
	if (event->ethertype == ETH_P_IPV6)
		nk_read_ipv6(skb, event, &cursor);
	else if (event->ethertype == ETH_P_IP)
		nk_read_ipv4(skb, event, &cursor);
	return 0;
}

/* Fills @event, which the caller has zeroed. */
static __always_inline void nk_read_packet(struct __sk_buff *skb, struct nk_event *event)
{
	void *data = (void *)(long)skb->data;
	void *data_end = (void *)(long)skb->data_end;
	struct nk_cursor cursor = { .offset = ETH_HLEN };
	__be16 ethertype;

	if (data + ETH_HLEN > data_end)
		return;
	ethertype = ((struct ethhdr *)data)->h_proto;

	if (skb->vlan_present) {	/* a tag beside the packet is outside those within */
		event->vlan_tci = skb->vlan_tci;
		event->flags |= NK_VLAN;
	}
	for (int i = 0; i < NK_MAX_VLAN_TAGS; i++) {
		struct nk_vlan_tag copy;
		const struct nk_vlan_tag *tag;

		if (ethertype != bpf_htons(ETH_P_8021Q) && ethertype != bpf_htons(ETH_P_8021AD))
			break;
		tag = nk_read(skb, cursor.offset, &copy, sizeof(copy));
		if (!tag)
			break;
		if (!(event->flags & NK_VLAN)) {
			event->vlan_tci = bpf_ntohs(tag->tci);
			event->flags |= NK_VLAN;
		}
		ethertype = tag->ethertype;
		cursor.offset += sizeof(copy);
	}

	event->ethertype = bpf_ntohs(ethertype);
	nk_read_ip(skb, event, cursor.offset);
}

#endif
