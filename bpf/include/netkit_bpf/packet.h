/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Parsing of a packet into a record.
 *
 * A netkit hook sees an Ethernet header in L2 and in L3 mode alike. Only these first 14 bytes are certain to be linear;
 * the packet itself is never changed (bpf_skb_pull_data would reshape it).
 *
 * There are two ways. A plain packet, its headers linear and with nothing between Ethernet, IP and
 * transport, is read in place: one call of a helper or a function costs more than all of that. Any other packet is read
 * header by header, each copied from wherever it is.
 *
 * The verifier walks each path through a program, which takes most of the loading time. So there are tables instead of
 * switches, and the code for copied packets has global functions, each of which is walked once.
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
#define NK_LEAST_TRANSPORT 8	/* bytes of a transport header that are linear in a plain packet */
#define NK_ECHO_LENGTH 8	/* of an ICMP echo's header: RFC 792, RFC 4443 section 4.1 */

/* Properties of the header that a protocol number announces. */
struct nk_header {
	__u8 length;		/* of a transport header: how much of it must be there for it to be read */
	__u8 flags;		/* enum nk_flags: what is read of it */
	bool extension;		/* an extension header that the kernel's own ipv6_ext_hdr() knows */
	__u8 echo_request;	/* types of ICMP messages with an identifier and a sequence number */
	__u8 echo_reply;
	__u8 unused[3];		/* pads the size so that older verifiers can follow the index */
};

/* By protocol number, in IPv4 and then in IPv6. */
#define NK_IPV4_HEADERS 0
#define NK_IPV6_HEADERS 256

static const struct nk_header nk_headers[512] = {
	[NK_IPV4_HEADERS + IPPROTO_TCP] = { .length = sizeof(struct tcphdr), .flags = NK_PORTS | NK_TCP },
	[NK_IPV4_HEADERS + IPPROTO_UDP] = { .length = sizeof(struct udphdr), .flags = NK_PORTS },
	[NK_IPV4_HEADERS + IPPROTO_UDPLITE] = { .length = sizeof(struct udphdr), .flags = NK_PORTS },
	[NK_IPV4_HEADERS + IPPROTO_SCTP] = { .length = 12, .flags = NK_PORTS },
	[NK_IPV4_HEADERS + IPPROTO_DCCP] = { .length = 12, .flags = NK_PORTS },
	[NK_IPV4_HEADERS + IPPROTO_ICMP] = { .length = 4, .flags = NK_ICMP, .echo_request = 8, .echo_reply = 0 },
	[NK_IPV6_HEADERS + IPPROTO_TCP] = { .length = sizeof(struct tcphdr), .flags = NK_PORTS | NK_TCP },
	[NK_IPV6_HEADERS + IPPROTO_UDP] = { .length = sizeof(struct udphdr), .flags = NK_PORTS },
	[NK_IPV6_HEADERS + IPPROTO_UDPLITE] = { .length = sizeof(struct udphdr), .flags = NK_PORTS },
	[NK_IPV6_HEADERS + IPPROTO_SCTP] = { .length = 12, .flags = NK_PORTS },
	[NK_IPV6_HEADERS + IPPROTO_DCCP] = { .length = 12, .flags = NK_PORTS },
	[NK_IPV6_HEADERS + IPPROTO_ICMPV6] = { .length = 4, .flags = NK_ICMP, .echo_request = 128, .echo_reply = 129 },
	[NK_IPV6_HEADERS + IPPROTO_HOPOPTS] = { .extension = true },
	[NK_IPV6_HEADERS + IPPROTO_ROUTING] = { .extension = true },
	[NK_IPV6_HEADERS + IPPROTO_FRAGMENT] = { .extension = true },
	[NK_IPV6_HEADERS + IPPROTO_DSTOPTS] = { .extension = true },
	[NK_IPV6_HEADERS + IPPROTO_AH] = { .extension = true },
};

struct nk_vlan_tag {
	__be16 tci;
	__be16 ethertype;
};

#define NK_PORTS_LENGTH 4	/* of the part that all transport headers share: ports, or ICMP's type, code and checksum */

struct nk_tcp {			/* what follows the ports in TCP's header (RFC 9293 section 3.1) */
	__be32 seq;
	__be32 ack;
	__u8 data_offset;
	__u8 flags;
	__be16 window;
};

struct nk_extension {		/* the part that all IPv6 extension headers share */
	__u8 next_header;
	__u8 length;
	__be16 fragment;	/* of a fragment header */
};

/* --- What both ways do. --- */

/* Sets the fields that come from no header, but for the time. */
static __always_inline void nk_set_outside(struct __sk_buff *skb, struct nk_event *event, __u32 side)
{
	__u32 tagged = -skb->vlan_present;	/* a mask: a branch would add paths for the verifier */

	event->length = skb->len;
	event->gso_segs = skb->gso_segs;
	event->side = side;
	event->vlan_tci = skb->vlan_tci & tagged;	/* the outermost: those within the packet come after it */
	event->flags = (NK_VLAN | NK_TAG_BESIDE) & tagged;
}

/* Where the headers of a plain packet are. */
struct nk_plain {
	const struct nk_header *kind;	/* of the transport header, which follows the IP header; its first bytes are linear */
	const __u8 *ip;
	__u32 ip_len;		/* of the IP header, which tells IPv6 and IPv4 apart */
	__u32 payload_len;	/* from the transport header on */
};

/* Finds the headers of a packet that is plain; false of any other. */
static __always_inline bool nk_find_plain(struct __sk_buff *skb, struct nk_plain *plain)
{
	const __u8 *data = (const __u8 *)(long)skb->data;
	const __u8 *data_end = (const __u8 *)(long)skb->data_end;
	const __u8 *ip = data + ETH_HLEN;
	__be16 ethertype;
	__u32 ip_len;

	if (ip + sizeof(struct iphdr) + NK_LEAST_TRANSPORT > data_end)
		return false;
	ethertype = *(const __be16 *)(data + offsetof(struct ethhdr, h_proto));	/* struct ethhdr is packed: two loads */
	if (ethertype == bpf_htons(ETH_P_IPV6)) {
		const struct ipv6hdr *ipv6 = (const void *)ip;

		ip_len = sizeof(*ipv6);
		if (ip + sizeof(*ipv6) + NK_LEAST_TRANSPORT > data_end)
			return false;
		plain->kind = &nk_headers[NK_IPV6_HEADERS + ipv6->nexthdr];
		plain->payload_len = bpf_ntohs(ipv6->payload_len);
		if (*ip >> 4 != 6 || plain->kind->extension || !plain->payload_len)
			return false;
	} else if (ethertype == bpf_htons(ETH_P_IP)) {
		const struct iphdr *ipv4 = (const void *)ip;

		ip_len = sizeof(*ipv4);
		plain->kind = &nk_headers[NK_IPV4_HEADERS + ipv4->protocol];
		plain->payload_len = bpf_ntohs(ipv4->tot_len) - sizeof(*ipv4);	/* huge, if it is negative */
		if (*ip != 0x45 || ipv4->frag_off & bpf_htons(0x3fff))
			return false;
	} else {
		return false;
	}
	barrier_var(ip_len);	/* the verifier follows the value, not what clang concludes from it */
	plain->ip = ip;
	plain->ip_len = ip_len;
	return plain->payload_len <= skb->len - ETH_HLEN - ip_len;
}

static __always_inline void nk_set_ipv6(struct nk_event *event, const struct ipv6hdr *ip)
{
	event->flags |= NK_IP;
	event->ip_word = bpf_ntohl(*(const __be32 *)ip);
	event->payload_len = bpf_ntohs(ip->payload_len);
	event->next_header = ip->nexthdr;
	event->hop_limit = ip->hop_limit;
	__builtin_memcpy(event->src, &ip->saddr, 16);
	__builtin_memcpy(event->dst, &ip->daddr, 16);
}

static __always_inline void nk_set_ipv4(struct nk_event *event, const struct iphdr *ip, __u32 payload_len)
{
	event->flags |= NK_IP | NK_PROTOCOL;
	event->ip_word = 4u << 28 | (__u32)ip->tos << 20;
	event->payload_len = payload_len;
	event->next_header = ip->protocol;
	event->protocol = ip->protocol;
	event->hop_limit = ip->ttl;
	__builtin_memcpy(event->src, &ip->saddr, 4);
	__builtin_memcpy(event->dst, &ip->daddr, 4);
}

/* Reads the first four bytes of a transport header. */
static __always_inline void nk_set_ports(struct nk_event *event, const struct nk_header *kind, const __u8 *bytes)
{
	event->flags |= kind->flags;
	if (kind->flags & NK_ICMP) {
		event->src_port = bytes[0];
		event->dst_port = bytes[1];
	} else {
		event->src_port = bpf_ntohs(((const __be16 *)bytes)[0]);
		event->dst_port = bpf_ntohs(((const __be16 *)bytes)[1]);
	}
}

static __always_inline void nk_set_tcp(struct nk_event *event, const struct nk_tcp *tcp)
{
	event->tcp_seq = bpf_ntohl(tcp->seq);
	event->tcp_ack = bpf_ntohl(tcp->ack);
	event->tcp_flags = tcp->flags;
	event->tcp_window = bpf_ntohs(tcp->window);
}

static __always_inline void nk_copy_tcp(struct __sk_buff *skb, struct nk_event *event, __u32 offset)
{
	struct nk_tcp tcp;

	if (!bpf_skb_load_bytes(skb, offset + NK_PORTS_LENGTH, &tcp, sizeof(tcp)))
		nk_set_tcp(event, &tcp);
	else
		event->flags &= ~NK_TCP;	/* of a capture file that was cut: it has no more than the ports */
}

/* Whether an ICMP message whose header has @length bytes has an identifier and a sequence number. */
static __always_inline bool nk_is_echo(const struct nk_event *event, const struct nk_header *kind, __u32 length)
{
	return length >= NK_ECHO_LENGTH &&
	       (event->src_port == kind->echo_request || event->src_port == kind->echo_reply);
}

static __always_inline void nk_set_echo(struct nk_event *event, const __be16 *words)
{
	event->flags |= NK_ECHO;
	event->icmp_id = bpf_ntohs(words[0]);
	event->icmp_seq = bpf_ntohs(words[1]);
}

/* --- In place. --- */

/* The transport header at @offset, of which NK_LEAST_TRANSPORT bytes are at @header. */
static __always_inline void nk_read_transport(struct __sk_buff *skb, struct nk_event *event,
					      const struct nk_header *kind, __u32 payload_len, __u32 offset,
					      const __u8 *header)
{
	const __u8 *data_end = (const __u8 *)(long)skb->data_end;

	if (!kind->length || kind->length > payload_len)
		return;
	nk_set_ports(event, kind, header);
	header += NK_PORTS_LENGTH;
	if (kind->flags & NK_TCP) {
		if (header + sizeof(struct nk_tcp) <= data_end)
			nk_set_tcp(event, (const struct nk_tcp *)header);
		else
			nk_copy_tcp(skb, event, offset);
	} else if (kind->flags & NK_ICMP && nk_is_echo(event, kind, payload_len)) {
		nk_set_echo(event, (const __be16 *)header);
	}
}

/* --- Copied. --- */

__noinline int nk_copy_transport(struct __sk_buff *skb, struct nk_event *event, __u32 offset, __u32 end, __u32 headers)
{
	const struct nk_header *kind;
	__be16 words[2];

	if (!event)
		return 0;
	kind = &nk_headers[(headers + event->protocol) & 511];
	if (!kind->length || offset + kind->length > end || bpf_skb_load_bytes(skb, offset, words, sizeof(words)))
		return 0;
	nk_set_ports(event, kind, (const __u8 *)words);
	if (kind->flags & NK_TCP)
		nk_copy_tcp(skb, event, offset);
	else if (kind->flags & NK_ICMP && nk_is_echo(event, kind, end - offset) &&
		 !bpf_skb_load_bytes(skb, offset + NK_PORTS_LENGTH, words, sizeof(words)))
		nk_set_echo(event, words);
	return 0;
}

/* The state of the walk along the extension headers: the next header begins at @offset. */
struct nk_chain {
	__u32 offset;
	__u32 end;		/* of the payload that IP announces and that exists */
	__u16 fragment;
	__u8 next_header;
	__u8 flags;
	__u8 followed;		/* extension headers so far */
	__u8 transport;		/* a transport header follows */
};

/* Follows one extension header; returns whether to stop. */
__noinline int nk_next_extension(struct __sk_buff *skb, struct nk_chain *chain)
{
	struct nk_extension extension;
	__u32 length;

	if (!chain)
		return 1;
	if (!nk_headers[NK_IPV6_HEADERS + chain->next_header].extension) {
		chain->flags |= NK_PROTOCOL;
		chain->transport = true;
		return 1;
	}
	if (chain->followed == NK_MAX_EXTENSIONS ||
	    bpf_skb_load_bytes(skb, chain->offset, &extension, sizeof(extension)))
		return 1;

	length = (extension.length + 1) * 8;
	if (chain->next_header == IPPROTO_AH) {
		length = (extension.length + 2) * 4;
	} else if (chain->next_header == IPPROTO_FRAGMENT) {
		length = 8;
	}
	/* cut short: nothing follows, and the rest of this header is not read */
	if (chain->offset + length > chain->end)
		return 1;
	if (chain->next_header == IPPROTO_FRAGMENT) {
		chain->fragment = bpf_ntohs(extension.fragment) & 0xfff9;
		chain->flags |= NK_FRAGMENT;
	}
	chain->followed++;
	chain->offset += length;
	chain->next_header = extension.next_header;
	if (chain->fragment & 0xfff8) {		/* not the first fragment: what follows is payload */
		chain->flags |= NK_PROTOCOL;
		return 1;
	}
	return 0;
}

struct nk_walk {
	struct __sk_buff *skb;
	struct nk_chain chain;
};

static long nk_walk_on(__u32 index __attribute__((unused)), void *context)
{
	struct nk_walk *walk = context;
	int is_last = nk_next_extension(walk->skb, &walk->chain);

	/* The verifier must see that it is 0 or 1. clang can prove that, and would leave out the mask. */
	barrier_var(is_last);
	return is_last & 1;
}

/* Follows the extension headers from @offset on, and reads the transport header behind them. */
__noinline int nk_copy_chain(struct __sk_buff *skb, struct nk_event *event, __u32 offset, __u32 end)
{
	struct nk_walk walk = { .skb = skb, .chain = { .offset = offset, .end = end } };
	struct nk_chain *chain = &walk.chain;

	if (!event)
		return 0;
	chain->next_header = event->next_header;
	bpf_loop(NK_MAX_EXTENSIONS + 1, nk_walk_on, &walk, 0);
	event->flags |= chain->flags;
	event->fragment = chain->fragment;
	if (chain->flags & NK_PROTOCOL)		/* not if the chain is cut short or too long */
		event->protocol = chain->next_header;
	if (chain->transport)			/* not in a later fragment */
		nk_copy_transport(skb, event, chain->offset, end, NK_IPV6_HEADERS);
	return 0;
}

__noinline int nk_copy_ipv6(struct __sk_buff *skb, struct nk_event *event, __u32 offset)
{
	__u32 payload_len, rest;
	struct ipv6hdr ip;

	if (!event || bpf_skb_load_bytes(skb, offset, &ip, sizeof(ip)) || *(__u8 *)&ip >> 4 != 6)
		return 0;
	nk_set_ipv6(event, &ip);
	offset += sizeof(ip);
	rest = skb->len - offset;
	payload_len = event->payload_len;
	/* a jumbogram (RFC 2675) or BIG TCP: the field of 16 bits says 0, the skb knows */
	if (!payload_len && (skb->gso_size || (ip.nexthdr == IPPROTO_HOPOPTS && rest > 0xffff)))
		event->payload_len = payload_len = rest;
	return nk_copy_chain(skb, event, offset, offset + (payload_len < rest ? payload_len : rest));
}

__noinline int nk_copy_ipv4(struct __sk_buff *skb, struct nk_event *event, __u32 offset)
{
	__u32 header_len, total_len, rest = skb->len - offset;
	struct iphdr ip;
	__u16 fragment;
	__u8 first;

	if (!event || bpf_skb_load_bytes(skb, offset, &ip, sizeof(ip)))
		return 0;
	first = *(__u8 *)&ip;		/* the version, 4, and the length in words, five or more */
	if (first < 0x45 || first > 0x4f)
		return 0;
	header_len = (first & 0xf) * 4;
	total_len = bpf_ntohs(ip.tot_len);
	if (!total_len && skb->gso_size)	/* BIG TCP */
		total_len = rest;
	if (total_len < header_len)
		return 0;
	nk_set_ipv4(event, &ip, total_len - header_len);
	if (total_len > rest)
		total_len = rest;
	fragment = bpf_ntohs(ip.frag_off);
	if (fragment & 0x3fff) {
		event->fragment = (fragment & 0x1fff) << 3 | !!(fragment & 0x2000);
		event->flags |= NK_FRAGMENT;
		if (fragment & 0x1fff)		/* a later fragment, without a transport header */
			return 0;
	}
	return nk_copy_transport(skb, event, offset + header_len, offset + total_len, NK_IPV4_HEADERS);
}

/* Follows the tags within the packet; returns the offset of what follows them. */
__noinline int nk_copy_tags(struct __sk_buff *skb, struct nk_event *event)
{
	__u32 offset = ETH_HLEN;
	struct nk_vlan_tag tag;
	__be16 ethertype;

	if (!event || bpf_skb_load_bytes(skb, offsetof(struct ethhdr, h_proto), &ethertype, sizeof(ethertype)))
		return offset;
	for (int i = 0; i < NK_MAX_VLAN_TAGS; i++) {
		if (ethertype != bpf_htons(ETH_P_8021Q) && ethertype != bpf_htons(ETH_P_8021AD))
			break;
		if (bpf_skb_load_bytes(skb, offset, &tag, sizeof(tag)))
			break;
		if (!(event->flags & NK_VLAN)) {
			event->vlan_tci = bpf_ntohs(tag.tci);
			event->flags |= NK_VLAN;
		}
		ethertype = tag.ethertype;
		offset += sizeof(tag);
	}
	event->ethertype = bpf_ntohs(ethertype);
	return offset;
}

#define NK_TAG_OFFSET 12	/* place on the wire of a tag that can be beside the packet */

/*
 * Copies the first bytes of a packet as on the wire, at most @most; returns their number. The record must have room for
 * at least NK_TAG_OFFSET + 4.
 */
static __always_inline __u32 nk_copy_data(struct __sk_buff *skb, struct nk_record *record, __u32 most)
{
	__u32 from = 0, to = 0, len = skb->len;

	if (record->event.flags & NK_TAG_BESIDE) {
		__be16 tag[2] = { skb->vlan_proto, bpf_htons(skb->vlan_tci) };

		bpf_skb_load_bytes(skb, 0, record->data, NK_TAG_OFFSET);
		__builtin_memcpy(record->data + NK_TAG_OFFSET, tag, sizeof(tag));
		from = NK_TAG_OFFSET;
		to = NK_TAG_OFFSET + sizeof(tag);
		len += sizeof(tag);
	}
	if (len > most)
		len = most;
	if (len > to && bpf_skb_load_bytes(skb, from, record->data + to, len - to))
		return 0;
	return len;
}

/* Reads any packet. */
static __always_inline void nk_read_packet(struct __sk_buff *skb, struct nk_event *event)
{
	__u32 offset = nk_copy_tags(skb, event);

	if (event->ethertype == ETH_P_IPV6)
		nk_copy_ipv6(skb, event, offset);
	else if (event->ethertype == ETH_P_IP)
		nk_copy_ipv4(skb, event, offset);
}

#endif
