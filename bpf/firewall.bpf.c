// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * The firewall: the first rule that matches a packet decides. One object a ruleset: its tables, which lie as
 * <netkit_bpf/firewall.h> tells, its counters and a program for each side.
 *
 * A rule that passes a packet says NEXT, so that programs behind see it; where none follows, the packet passes. What no
 * rule matches is dropped, or left to the programs behind and to the side's policy.
 */
#include <netkit_bpf/packet.h>
#include <netkit_bpf/firewall.h>

char LICENSE[] SEC("license") = "Dual MIT/GPL";

#define VERDICT_NEXT (-1)
#define VERDICT_DROP 2
#define NO_RULE (~0U)

/* struct nk_fw_layout, set before load: the verifier knows these numbers, and leaves out what they rule out. */
const volatile __u32 layout_words[sizeof(struct nk_fw_layout) / sizeof(__u32)];
#define LAYOUT ((const volatile struct nk_fw_layout *)layout_words)

const volatile __u32 default_action = NK_ACTION_LEAVE;	/* of packets that no rule matches */

/*
 * What to say of a packet that is left to others, per side: NEXT, or DROP on a blackhole as long as this is the last
 * program of the hook (see monitor.bpf.c).
 */
volatile __s32 verdict[NK_SIDES] SEC(".data") = { VERDICT_NEXT, VERDICT_NEXT };

/* Zero, which a verifier does not know: what it is added to may be any number, in whichever way it came about. */
volatile __u32 zero SEC(".data") = 0;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, 8);		/* set before load */
} tables SEC(".maps");

/* By rule; behind the last, the packets that none matches. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);		/* set before load */
	__type(key, __u32);
	__type(value, struct nk_fw_count);
} counts SEC(".maps");

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

/* --- Reading the packet. --- */

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

/*
 * A packet whose headers are linear and with nothing between Ethernet, IP and transport; false of any other.
 */
static __always_inline bool nk_read_plain(struct __sk_buff *skb, struct nk_packet *packet)
{
	const __u8 *data = (const __u8 *)(long)skb->data;
	const __u8 *data_end = (const __u8 *)(long)skb->data_end;
	const struct ethhdr *eth = (const void *)data;
	const __u8 *ip = data + ETH_HLEN;
	const struct nk_header *kind;
	__u32 payload_len, ip_len;
	const __u8 *header;

	if (ip + sizeof(struct iphdr) + NK_LEAST_TRANSPORT > data_end)
		return false;
	if (eth->h_proto == bpf_htons(ETH_P_IPV6)) {
		const struct ipv6hdr *ipv6 = (const void *)ip;

		ip_len = sizeof(*ipv6);
		if (ip + sizeof(*ipv6) + NK_LEAST_TRANSPORT > data_end)
			return false;
		kind = &nk_headers[NK_IPV6_HEADERS + ipv6->nexthdr];
		payload_len = bpf_ntohs(ipv6->payload_len);
		if (*ip >> 4 != 6 || kind->extension || !payload_len)
			return false;
		packet->family = NK_IPV6;
		packet->protocol = ipv6->nexthdr;
		nk_set_addresses6(packet, (const __u8 *)&ipv6->saddr, (const __u8 *)&ipv6->daddr);
		header = ip + sizeof(*ipv6);
	} else if (eth->h_proto == bpf_htons(ETH_P_IP)) {
		const struct iphdr *ipv4 = (const void *)ip;

		ip_len = sizeof(*ipv4);
		kind = &nk_headers[NK_IPV4_HEADERS + ipv4->protocol];
		payload_len = bpf_ntohs(ipv4->tot_len) - sizeof(*ipv4);		/* huge, if it is negative */
		if (*ip != 0x45 || ipv4->frag_off & bpf_htons(0x3fff))
			return false;
		packet->family = NK_IPV4;
		packet->protocol = ipv4->protocol;
		nk_set_addresses4(packet, ipv4->saddr, ipv4->daddr);
		header = ip + sizeof(*ipv4);
	} else {
		return false;
	}
	barrier_var(ip_len);	/* see monitor.bpf.c */
	if (payload_len > skb->len - ETH_HLEN - ip_len)
		return false;

	packet->fragment = NK_WHOLE;
	packet->src_port = NK_FW_ABSENT;
	packet->dst_port = NK_FW_ABSENT;
	packet->tcp_flags = NK_FW_ABSENT;
	if (!kind->length || kind->length > payload_len)
		return true;
	if (kind->flags & NK_ICMP) {
		packet->src_port = header[0];
		packet->dst_port = header[1];
		return true;
	}
	packet->src_port = bpf_ntohs(((const __be16 *)header)[0]);
	packet->dst_port = bpf_ntohs(((const __be16 *)header)[1]);
	if (!(kind->flags & NK_TCP))
		return true;
	header += NK_PORTS_LENGTH;
	if (header + sizeof(struct nk_tcp) > data_end)
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

/* --- Looking up. --- */

/*
 * Where @offset is. All offsets lie within the tables, as the compiler has made them, but a verifier does not know. So
 * the others, which there are not, are taken for the last one.
 */
static __always_inline const __u8 *nk_at(const __u8 *table, __u64 offset)
{
	barrier_var(offset);
	if (offset > LAYOUT->last)
		offset = LAYOUT->last;
	return table + offset;
}

static __always_inline __u32 nk_u16_at(const __u8 *table, __u64 offset)
{
	return *(const __u16 *)nk_at(table, offset);
}

static __always_inline __u32 nk_u32_at(const __u8 *table, __u64 offset)
{
	return *(const __u32 *)nk_at(table, offset);
}

/* The row of an address, of which @first are the first 16 bits. */
static __always_inline __u32 nk_address_row(const __u8 *table, const volatile struct nk_fw_addresses *addresses,
					    const __u64 *address, bool is_ipv6)
{
	__u64 position, half, key = address[0];
	__u32 entry;

	if (!addresses->root)
		return addresses->rows;
	entry = nk_u32_at(table, addresses->root + (is_ipv6 ? key >> 48 : key >> 16 & 0xffff) * 4);
	position = entry & ((1U << NK_FW_POSITION) - 1);
	half = (1U << (entry >> NK_FW_POSITION)) >> 1;
	for (int i = 0; i < NK_FW_STEPS; i++) {
		if (!half)
			break;
		if (is_ipv6) {
			const struct nk_fw_bound *bound = (const void *)nk_at(
				table, addresses->bounds + (position + half) * sizeof(struct nk_fw_bound));

			if (bound->high < key || (bound->high == key && bound->low <= address[1]))
				position += half;
		} else {
			__s64 beyond = nk_u16_at(table, addresses->bounds + (position + half) * 2);

			/* all bits if the boundary is not beyond: a branch would be foretold wrongly half of the time */
			beyond = (beyond - (__s64)(key & 0xffff) - 1) >> 63;
			position += half & beyond;
		}
		barrier_var(position);
		half >>= 1;
	}
	return nk_u32_at(table, addresses->rows + position * 4);
}

/* Merges a number into the service, or gives the number's own row. */
static __always_inline void nk_number(const __u8 *table, const volatile struct nk_fw_numbers *numbers, __u32 value,
				      __u32 *service, __u32 *row)
{
	__u32 class = numbers->absent;

	if (!numbers->classes)
		return;
	if (value < NK_FW_ABSENT)
		class = nk_u16_at(table, numbers->table + (__u64)value * 2);
	if (numbers->merged)
		*service = nk_u16_at(table, numbers->merged + ((__u64)*service * numbers->classes + class) * 2);
	else
		*row = nk_u32_at(table, numbers->rows + (__u64)class * 4);
}

static __always_inline bool nk_has_row(const volatile struct nk_fw_numbers *numbers)
{
	return numbers->classes && !numbers->merged;
}

struct nk_rows {
	__u32 service, src, dst;
	__u32 tcp_flags, length, dst_port, src_port;	/* where they are not merged */
};

struct nk_search {
	const __u8 *table;
	struct nk_rows rows;
	__u64 pending;		/* words that all summaries of this block leave */
	__u32 block;		/* of 64 words */
	__u32 rule;
};

static __always_inline __u64 nk_row_word(const __u8 *table, __u32 row, __u32 word)
{
	return *(const __u64 *)nk_at(table, ((__u64)row + word) * 8);
}

/* What all rows have in common in one of their words. */
static __always_inline __u64 nk_common(const __u8 *table, const struct nk_rows *rows, __u32 word)
{
	__u64 common = nk_row_word(table, rows->service, word) & nk_row_word(table, rows->src, word) &
		       nk_row_word(table, rows->dst, word);

	if (nk_has_row(&LAYOUT->tcp_flags))
		common &= nk_row_word(table, rows->tcp_flags, word);
	if (nk_has_row(&LAYOUT->length))
		common &= nk_row_word(table, rows->length, word);
	if (nk_has_row(&LAYOUT->dst_port))
		common &= nk_row_word(table, rows->dst_port, word);
	if (nk_has_row(&LAYOUT->src_port))
		common &= nk_row_word(table, rows->src_port, word);
	return common;
}

/* The number of the lowest bit, by a de Bruijn sequence: BPF has no instruction for it. */
static const __u8 nk_bits[64] = {
	0, 1, 2, 53, 3, 7, 54, 27, 4, 38, 41, 8, 34, 55, 48, 28,
	62, 5, 39, 46, 44, 42, 22, 9, 24, 35, 59, 56, 49, 18, 29, 11,
	63, 52, 6, 26, 37, 40, 33, 47, 61, 45, 43, 21, 23, 58, 17, 10,
	51, 25, 36, 32, 60, 20, 57, 16, 50, 31, 19, 15, 30, 14, 13, 12,
};

static __always_inline __u32 nk_lowest_bit(__u64 word)
{
	return nk_bits[((word & -word) * 0x022fdd63cc95386dULL) >> 58];
}

/* Looks at one word, or goes on to the next block; returns whether to stop. */
static long nk_visit(__u32 index __attribute__((unused)), void *context)
{
	struct nk_search *search = context;
	__u64 pending = search->pending, common;
	__u32 word;

	if (!pending) {
		__u32 block = search->block + 1;

		barrier_var(block);
		if (block >= LAYOUT->summary)
			return 1;
		search->block = block;
		search->pending = nk_common(search->table, &search->rows, block);
		return 0;
	}
	word = search->block * 64 + nk_lowest_bit(pending);
	search->pending = pending & (pending - 1);
	common = nk_common(search->table, &search->rows, LAYOUT->summary + word);
	if (!common)
		return 0;
	search->rule = word * 64 + nk_lowest_bit(common);
	return 1;
}

/* The first rule that matches; LAYOUT->rules if none does. */
static __always_inline __u32 nk_find_rule(const __u8 *table, const struct nk_packet *packet, __u32 side)
{
	struct nk_search search = { .table = table, .rule = LAYOUT->rules };
	struct nk_rows *rows = &search.rows;
	__u32 kind, service;
	__u64 common;

	if (packet->family == NK_IPV4) {
		rows->src = nk_address_row(table, &LAYOUT->addresses[0][0], packet->src, false);
		rows->dst = nk_address_row(table, &LAYOUT->addresses[1][0], packet->dst, false);
	} else if (packet->family == NK_IPV6) {
		rows->src = nk_address_row(table, &LAYOUT->addresses[0][1], packet->src, true);
		rows->dst = nk_address_row(table, &LAYOUT->addresses[1][1], packet->dst, true);
	} else {
		rows->src = LAYOUT->no_address[0];
		rows->dst = LAYOUT->no_address[1];
	}

	kind = ((side * NK_FAMILIES + packet->family) * NK_FRAGMENTS + packet->fragment) * NK_FW_PROTOCOLS +
	       packet->protocol;
	service = nk_u16_at(table, LAYOUT->kinds + (__u64)kind * 2);
	nk_number(table, &LAYOUT->tcp_flags, packet->tcp_flags, &service, &rows->tcp_flags);
	nk_number(table, &LAYOUT->length, packet->length, &service, &rows->length);
	nk_number(table, &LAYOUT->dst_port, packet->dst_port, &service, &rows->dst_port);
	nk_number(table, &LAYOUT->src_port, packet->src_port, &service, &rows->src_port);
	rows->service = nk_u32_at(table, LAYOUT->services + (__u64)service * 4);

	common = nk_common(table, rows, 0);
	if (!LAYOUT->summary)
		return common ? nk_lowest_bit(common) : LAYOUT->rules;
	search.pending = common;
	bpf_loop(LAYOUT->words + LAYOUT->summary, nk_visit, &search, 0);
	return search.rule;
}

static __always_inline __u32 nk_judge(struct __sk_buff *skb, const __u8 *table, __u32 side)
{
	struct nk_packet packet = {};

	__u32 unknown = zero;

	if (!nk_read_plain(skb, &packet))
		nk_read_any(skb, &packet);
	packet.length = skb->len < NK_FW_ABSENT ? skb->len : NK_FW_ABSENT - 1;
	/* Else the verifier would follow the search once for each way in which a packet is read. */
	packet.family += unknown;
	packet.fragment += unknown;
	packet.protocol += unknown;
	packet.src_port += unknown;
	packet.dst_port += unknown;
	packet.tcp_flags += unknown;
	packet.length += unknown;
	return nk_find_rule(table, &packet, side) + unknown;
}

static __always_inline int nk_filter(struct __sk_buff *skb, const __u32 side)
{
	struct nk_fw_count *count;
	const __u8 *table;
	__u32 key = 0, rule, action;

	table = bpf_map_lookup_elem(&tables, &key);
	if (!table)
		return VERDICT_DROP;
	rule = nk_judge(skb, table, side);
	count = bpf_map_lookup_elem(&counts, &rule);
	if (count) {		/* this CPU's own, and no program interrupts this one on it */
		count->packets++;
		count->bytes += skb->len;
	}
	action = rule < LAYOUT->rules ? *nk_at(table, LAYOUT->actions + (__u64)rule) : default_action;
	if (action == NK_ACTION_PASS)
		return VERDICT_NEXT;
	return action == NK_ACTION_LEAVE ? verdict[side] : VERDICT_DROP;
}

SEC("tc")
int firewall_primary(struct __sk_buff *skb)
{
	return nk_filter(skb, NK_PRIMARY);
}

SEC("tc")
int firewall_peer(struct __sk_buff *skb)
{
	return nk_filter(skb, NK_PEER);
}

/* For a test run: the number of the rule that would decide for the side that is in the mark. Nothing is counted. */
SEC("?tc")
int firewall_explain(struct __sk_buff *skb)
{
	const __u8 *table;
	__u32 key = 0;

	table = bpf_map_lookup_elem(&tables, &key);
	if (!table)
		return NO_RULE;
	return nk_judge(skb, table, skb->mark & 1);
}
