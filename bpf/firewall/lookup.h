/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Looking a packet up in the tables of a ruleset. */
#ifndef NETKIT_BPF_FIREWALL_LOOKUP_H
#define NETKIT_BPF_FIREWALL_LOOKUP_H

#include "packet.h"

#define NK_FW_USUAL 3		/* groups that are looked at without a loop */
#define NO_RULE (~0U)

/* struct nk_fw_layout, set before load: the verifier knows these numbers, and leaves out what they rule out. */
const volatile __u32 layout_words[sizeof(struct nk_fw_layout) / sizeof(__u32)];
#define LAYOUT ((const volatile struct nk_fw_layout *)layout_words)

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, 8);		/* set before load */
} tables SEC(".maps");

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

/* A packet's rows, from some word on. */
struct nk_words {
	const __u64 *service, *src, *dst;
	const __u64 *tcp_flags, *length, *dst_port, *src_port;
};

/*
 * False if they are not within the tables, which never is: were those taken for others, as nk_at() does, the verifier would
 * follow each way for each row.
 */
static __always_inline bool nk_set_word(const __u64 **word, const __u8 *table, __u64 offset)
{
	barrier_var(offset);
	if (offset > LAYOUT->last)
		return false;
	*word = (const void *)(table + offset);
	return true;
}

#define NK_FOR_ROWS(act)                                                                      \
	(act(service) && act(src) && act(dst) &&                                              \
	 (!nk_has_row(&LAYOUT->tcp_flags) || act(tcp_flags)) &&                               \
	 (!nk_has_row(&LAYOUT->length) || act(length)) &&                                     \
	 (!nk_has_row(&LAYOUT->dst_port) || act(dst_port)) &&                                 \
	 (!nk_has_row(&LAYOUT->src_port) || act(src_port)))

static __always_inline bool nk_set_summaries(struct nk_words *words, const __u8 *table, const struct nk_rows *rows,
					     __u64 block)
{
#define NK_SET(row) nk_set_word(&words->row, table, rows->row + block * 8)
	return NK_FOR_ROWS(NK_SET);
#undef NK_SET
}

static __always_inline bool nk_set_group(struct nk_words *words, const __u8 *table, const struct nk_rows *rows,
					 __u64 group)
{
	__u64 offset = (__u64)LAYOUT->summary * 8 + group * 4;

#define NK_SET(row)                                                                           \
	nk_set_word(&words->row, table,                                                       \
		    LAYOUT->summary ? nk_u32_at(table, rows->row + offset) : rows->row)
	return NK_FOR_ROWS(NK_SET);
#undef NK_SET
}

/* What all rows have in common in one of their words. */
static __always_inline __u64 nk_common(const struct nk_words *words, const __u32 word)
{
	__u64 common = words->service[word] & words->src[word] & words->dst[word];

	if (nk_has_row(&LAYOUT->tcp_flags))
		common &= words->tcp_flags[word];
	if (nk_has_row(&LAYOUT->length))
		common &= words->length[word];
	if (nk_has_row(&LAYOUT->dst_port))
		common &= words->dst_port[word];
	if (nk_has_row(&LAYOUT->src_port))
		common &= words->src_port[word];
	return common;
}

struct nk_search {
	const __u8 *table;
	struct nk_rows rows;
	__u64 pending;		/* groups that all summaries of this block leave */
	__u32 block;		/* of 64 groups */
	__u64 rule;		/* the lowest that matches, until now */
};

/* The groups of a block that all rows have something in. */
static __always_inline __u64 nk_pending(const __u8 *table, const struct nk_rows *rows, __u32 block)
{
	struct nk_words words;

	if (!nk_set_summaries(&words, table, rows, block))
		return 0;
	return nk_common(&words, 0);
}

/* The bit of the first rule of a group that matches; that behind all others if none does. */
static __always_inline __u64 nk_find_in_group(const __u8 *table, const struct nk_rows *rows, __u32 group)
{
	__u64 first = (__u64)group * LAYOUT->group, last = (__u64)LAYOUT->groups * LAYOUT->group * 64, common;
	struct nk_words words;

	if (!nk_set_group(&words, table, rows, group))
		return last;
#pragma unroll
	for (__u32 word = 0; word < NK_FW_GROUP; word++) {
		if (word >= LAYOUT->group)
			break;
		common = nk_common(&words, word);
		if (common)
			return (first + word) * 64 + nk_lowest_bit(common);
	}
	return last;
}

/*
 * The lower of @rule and the first rule of a group that matches. What the verifier knows of it must not depend on the way
 * here, nor on how many groups were looked at before: else it follows each of them. So there is no branch, and a zero that
 * it does not know.
 */
static __always_inline __u64 nk_look_at_group(const __u8 *table, const struct nk_rows *rows, __u32 group, __s64 rule)
{
	__u64 bit = nk_find_in_group(table, rows, group);
	__s64 difference = nk_u32_at(table, LAYOUT->order + bit * 4);

	difference -= rule;
	barrier_var(difference);
	return (__u32)(rule + (difference & difference >> 63)) ^ zero;
}

/* Looks at one group, or goes on to the next block; returns whether to stop. */
static long nk_visit(__u32 index __attribute__((unused)), void *context)
{
	struct nk_search *search = context;
	__u64 pending = search->pending;
	__u32 group, least;

	if (!pending) {
		__u32 block = (search->block + 1) ^ zero;

		if (block >= LAYOUT->summary)
			return 1;
		search->block = block;
		search->pending = nk_pending(search->table, &search->rows, block);
		return 0;
	}
	group = search->block * 64 + nk_lowest_bit(pending);
	search->pending = pending & (pending - 1);
	least = nk_u32_at(search->table, LAYOUT->order + (__u64)group * LAYOUT->group * 64 * sizeof(__u32));
	if (least < search->rule)
		search->rule = nk_look_at_group(search->table, &search->rows, group, search->rule);
	return 0;
}

/* The first rule that matches; LAYOUT->rules if none does. */
static __always_inline __u32 nk_find_rule(const __u8 *table, const struct nk_packet *packet, __u32 side)
{
	struct nk_search search = { .table = table };
	struct nk_rows *rows = &search.rows;
	__u64 pending, rule = LAYOUT->rules + zero;
	__u32 kind, service;

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

	if (!LAYOUT->summary)
		return nk_look_at_group(table, rows, 0, rule);
	/* most packets have a few groups to be looked at, and a loop with calls takes longer than these */
	pending = nk_pending(table, rows, 0);
	for (int i = 0; i < NK_FW_USUAL; i++) {
		if (!pending)
			break;
		rule = nk_look_at_group(table, rows, nk_lowest_bit(pending), rule);
		pending &= pending - 1;
		barrier_var(pending);
	}
	if (!pending && LAYOUT->summary == 1)
		return rule;
	search.pending = pending;
	search.block = zero;
	search.rule = rule;
	bpf_loop(LAYOUT->groups + LAYOUT->summary, nk_visit, &search, 0);
	return search.rule;
}

#endif
