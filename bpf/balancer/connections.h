/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Of the load balancer: the table of connections, and the Maglev table. */
#ifndef NETKIT_BPF_BALANCER_CONNECTIONS_H
#define NETKIT_BPF_BALANCER_CONNECTIONS_H

#include "state.h"

struct nk_key {
	__u64 high, low;	/* the client's address */
	__u64 hash;		/* of it and of the port */
	__u32 port;		/* as it is in the packet */
	__u32 tcp_flags;
};

/* Each bit of the input changes half of the output, and no two inputs have the same (MurmurHash3). */
static __always_inline __u64 nk_mix(__u64 value)
{
	value ^= value >> 33;
	value *= 0xff51afd7ed558ccdULL;
	value ^= value >> 33;
	value *= 0xc4ceb9fe1a85ec53ULL;
	return value ^ value >> 33;
}

/* The same in every process, so that one that takes over sends connections to where they were. */
static __always_inline void nk_set_hash(struct nk_key *key)
{
	if (is_ipv6)
		key->hash = nk_mix(nk_mix(key->high ^ key->port) + key->low);
	else
		key->hash = nk_mix(key->low << 16 | key->port);
}

#define NK_FREE 0ULL
#define NK_BUSY 1ULL	/* somebody writes the place: no hash has this */
#define NK_WORD_KEY 0xffff00000000ffffULL

static __always_inline __u64 nk_word_of(const struct nk_key *key, __u32 backend, __u32 generation)
{
	/* Of the hash one bit is always set: a word that is taken is neither free nor busy. */
	return ((key->hash | 1) << 48) | (__u64)(generation & 0xffff) << 32 | (backend & 0xffff) << 16 | key->port;
}

static __always_inline __u32 nk_backend_of(__u64 word)
{
	return word >> 16 & 0xffff;
}

static __always_inline __u32 nk_generation_of(__u64 word)
{
	return word >> 32 & 0xffff;
}

static __always_inline struct nk_lb_set *nk_set_at(__u64 place)
{
	__u32 index = place & set_mask;

	return bpf_map_lookup_elem(&connections, &index);
}

/* A connection in its place. */
struct nk_place {
	struct nk_lb_set *set;
	__u32 way;
	__u64 word;
};

static __always_inline bool nk_find_in(struct nk_lb_set *set, const struct nk_key *key, struct nk_place *found)
{
	__u64 wanted = nk_word_of(key, 0, 0), word;
	__u32 way = 0;

	if (!set)
		return false;
#pragma unroll
	for (int i = 0; i < NK_LB_WAYS; i++) {
		word = *(volatile __u64 *)&set->words[i];
		if (((word ^ wanted) & NK_WORD_KEY) == 0 && set->flows[i].low == key->low &&
		    set->flows[i].high == key->high) {
			way = i;
			goto found;
		}
	}
	return false;
found:
	found->set = set;
	found->word = word;
	found->way = (way + zero) & (NK_LB_WAYS - 1);	/* else the verifier follows the rest once for each */
	return true;
}

static __always_inline bool nk_find(const struct nk_key *key, struct nk_place *found)
{
	__u64 place = nk_mix(key->hash ^ seed);

	return nk_find_in(nk_set_at(place), key, found) || nk_find_in(nk_set_at(place >> 32), key, found);
}

static __always_inline bool nk_is_over(const struct nk_lb_flow *flow, __u32 age)
{
	if (!is_tcp)
		return age > udp_idle;
	return (flow->from_client & flow->from_backend & NK_LB_FIN) ||
	       ((flow->from_client | flow->from_backend) & NK_LB_RST) || age > tcp_idle;
}

static __always_inline bool nk_is_established(const struct nk_lb_flow *flow)
{
	return flow->from_client & NK_LB_PAST_SYN && flow->from_backend;
}

static __always_inline __u32 nk_now(void)
{
	return bpf_jiffies64() >> NK_LB_TICK;	/* inlined, where clocks take a call */
}

/* What a packet tells of its connection. */
static __always_inline __u32 nk_seen_by(__u32 tcp_flags)
{
	__u32 seen = NK_LB_ANY;

	if (!is_tcp)
		return seen | NK_LB_PAST_SYN;
	if (!(tcp_flags & TCP_SYN))
		seen |= NK_LB_PAST_SYN;
	if (tcp_flags & TCP_FIN)
		seen |= NK_LB_FIN;
	if (tcp_flags & TCP_RST)
		seen |= NK_LB_RST;
	return seen;
}

/* Writes what is new only: the other direction may run on another CPU. */
static __always_inline void nk_touch(struct nk_lb_flow *flow, __u32 now, __u32 seen, bool from_client)
{
	__u8 *side = from_client ? &flow->from_client : &flow->from_backend;

	if (flow->seen != now)
		flow->seen = now;
	if ((*side | seen) != *side)
		*side |= seen;
}

/* The search for a place: the one that can be missed most. */
struct nk_search {
	struct nk_lb_set *sets[2];
	__u32 now;
	__u32 free[2];		/* places in each set */
	__u32 way;		/* 8 and more: of the second set */
	__u64 score;		/* its */
	__u64 word;		/* its */
};

#define NK_SCORE_FREE (1ULL << 40)
#define NK_SCORE_OVER (1ULL << 36)
#define NK_SCORE_HALF_OPEN (1ULL << 34)

static long nk_weigh(__u32 index, void *context)
{
	struct nk_search *search = context;
	struct nk_lb_set *set = index < NK_LB_WAYS ? search->sets[0] : search->sets[1];
	__u32 way = index & (NK_LB_WAYS - 1);
	struct nk_lb_flow *flow;
	__u64 word, score;

	if (!set)
		return 1;
	flow = &set->flows[way];
	word = set->words[way];
	score = search->now - flow->seen;
	if (word == NK_BUSY)
		return 0;
	if (word == NK_FREE) {
		/* the emptier set: the free places of one add up, and the last of them is taken */
		__u32 *free = index < NK_LB_WAYS ? &search->free[0] : &search->free[1];

		*free += 1;
		score = NK_SCORE_FREE + *free;
	} else if (nk_is_over(flow, score)) {
		score += NK_SCORE_OVER;
	} else if (!nk_is_established(flow)) {
		score += NK_SCORE_HALF_OPEN;
	}
	if (score >= search->score) {
		search->score = score;
		search->word = word;
		search->way = index;
	}
	return 0;
}

#define NK_TRIES 4	/* to get a place before somebody else */

/* Writes a connection to a place; returns whether the place was still what it was. */
static __always_inline bool nk_write(struct nk_lb_set *set, __u32 way, __u64 old, __u64 word, const struct nk_key *key,
				     __u32 now)
{
	struct nk_lb_flow *flow;

	way &= NK_LB_WAYS - 1;
	if (__sync_val_compare_and_swap(&set->words[way], old, NK_BUSY) != old)
		return false;
	flow = &set->flows[way];
	flow->high = key->high;
	flow->low = key->low;
	flow->seen = now;
	flow->from_client = nk_seen_by(key->tcp_flags);
	flow->from_backend = 0;
	__sync_lock_test_and_set(&set->words[way], word);	/* whoever sees the word sees the rest */
	return true;
}

/* --- Evicted connections, whose replies must not leave as they are: their client would reset what it does not know. --- */

static __always_inline __u32 *nk_eviction_of(const struct nk_key *key)
{
	__u64 place = nk_mix(key->hash ^ seed);
	__u32 index = place & set_mask;
	struct nk_evictions *found = bpf_map_lookup_elem(&evictions, &index);

	return found ? &found->when[place >> 61] : NULL;
}

static __always_inline void nk_note_eviction(struct nk_key *victim, __u32 now)
{
	__u32 *when;

	nk_set_hash(victim);
	when = nk_eviction_of(victim);
	if (when)
		*when = (now - 1) | 1;	/* odd, and not later */
}

/*
 * The backend behind whose pair a packet comes from, if the connection may have been evicted: one that shares its place
 * was, and would not be over yet. What a backend sends of a connection that never was the balancer's is not touched.
 */
static __always_inline __u32 nk_backend_behind(struct __sk_buff *skb, const struct nk_key *key)
{
	__u32 *when = nk_eviction_of(key), ifindex = skb->ifindex, *place;

	if (!when || !*when || nk_now() - *when > (is_tcp ? tcp_idle : udp_idle))
		return NK_LB_NOBODY;
	place = bpf_map_lookup_elem(&places, &ifindex);
	return place ? *place : NK_LB_NOBODY;
}

static __always_inline void nk_keep(const struct nk_key *key, __u64 word)
{
	__u64 place = nk_mix(key->hash ^ seed);
	__u32 now = nk_now();

	for (int i = 0; i < NK_TRIES; i++) {
		struct nk_search search = { .now = now };
		struct nk_key victim = {};
		struct nk_lb_set *set;

		search.sets[0] = nk_set_at(place);
		search.sets[1] = nk_set_at(place >> 32);
		bpf_loop(2 * NK_LB_WAYS, nk_weigh, &search, 0);
		set = search.way < NK_LB_WAYS ? search.sets[0] : search.sets[1];
		if (!set)
			return;
		victim.high = set->flows[search.way & (NK_LB_WAYS - 1)].high;
		victim.low = set->flows[search.way & (NK_LB_WAYS - 1)].low;
		victim.port = search.word & 0xffff;
		if (nk_write(set, search.way, search.word, word, key, now)) {
			if (search.score < NK_SCORE_HALF_OPEN) {
				nk_tell(NK_LB_EVICTED);
				nk_note_eviction(&victim, now);
			}
			return;
		}
	}
}

#define NK_PICKS 8	/* among backends that may be gone */
#define ENODEV 19

/* The backend that the Maglev table names. */
static __always_inline __u32 nk_pick(__u64 hash)
{
	__u64 slot = (hash >> 32) * NK_LB_RING >> 32;
	__u32 first = 0;
	void *current = bpf_map_lookup_elem(&ring, &first);
	struct nk_ring *table = current ? bpf_map_lookup_elem(current, &first) : NULL;

	barrier_var(slot);	/* clang knows that it is smaller, and a verifier does not */
	if (!table || slot >= NK_LB_RING)
		return NK_LB_NOBODY;
	return table->backends[slot];
}

static __always_inline struct nk_lb_backend *nk_backend_at(__u32 index)
{
	struct nk_lb_backend *backend = bpf_map_lookup_elem(&backends, &index);

	return backend && backend->generation ? backend : NULL;
}

/* Whether its device is there still. */
static __always_inline bool nk_is_there(struct __sk_buff *skb, const struct nk_lb_backend *backend)
{
	__u32 mtu = 0;

	return bpf_check_mtu(skb, backend->ifindex, &mtu, 0, 0) != -ENODEV;
}

/*
 * Begins a connection: in its own old place if it has one. Returns its backend, or NK_LB_NOBODY. If the pair of the one
 * that is named was deleted, and user space has not learnt of it, another entry of the Maglev table decides.
 */
__noinline int nk_begin(struct __sk_buff *skb, struct nk_key *key)
{
	struct nk_lb_backend *backend = NULL;
	__u32 index = NK_LB_NOBODY;
	struct nk_lb_count *count;
	struct nk_place old;
	__u64 word, hash;

	if (!key)
		return NK_LB_NOBODY;
	hash = key->hash;
	for (int i = 0; i < NK_PICKS; i++) {
		index = nk_pick(hash);
		backend = nk_backend_at(index);
		if (!backend)
			return NK_LB_NOBODY;
		if (nk_is_there(skb, backend))
			break;
		backend = NULL;
		hash = nk_mix(hash);
	}
	if (!backend)
		return NK_LB_NOBODY;
	word = nk_word_of(key, index, backend->generation);
	if (!nk_find(key, &old) || !nk_write(old.set, old.way, old.word, word, key, nk_now()))
		nk_keep(key, word);
	count = bpf_map_lookup_elem(&counts, &index);
	if (count)
		count->connections++;
	return index;
}

#endif
