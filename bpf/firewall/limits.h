/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Rates of rules: a bucket of tokens for each, which all CPUs share. */
#ifndef NETKIT_BPF_FIREWALL_LIMITS_H
#define NETKIT_BPF_FIREWALL_LIMITS_H

#include "lookup.h"

struct nk_fw_bucket {
	struct bpf_spin_lock lock;
	__u64 full_at;		/* when it will be full again; CLOCK_MONOTONIC */
};

/* By rule. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);		/* set before load */
	__type(key, __u32);
	__type(value, struct nk_fw_bucket);
} buckets SEC(".maps");

/* Whether there is a token for a packet that a rule passes, which it takes. */
static __always_inline bool nk_take_token(const __u8 *table, __u32 rule)
{
	const struct nk_fw_limit *limit = (const void *)nk_at(table, LAYOUT->limits + (__u64)rule * sizeof(*limit));
	__u64 interval = limit->interval, room = limit->room, now = bpf_ktime_get_ns(), full_at;
	struct nk_fw_bucket *bucket = bpf_map_lookup_elem(&buckets, &rule);
	bool has_token;

	if (!bucket)
		return false;
	bpf_spin_lock(&bucket->lock);
	full_at = bucket->full_at > now ? bucket->full_at : now;
	has_token = full_at - now <= room;
	if (has_token)
		bucket->full_at = full_at + interval;
	bpf_spin_unlock(&bucket->lock);
	return has_token;
}

#endif
