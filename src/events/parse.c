/* SPDX-License-Identifier: MIT */
/*
 * packet.h, compiled for this machine: helpers take their bytes from memory instead of from the kernel. What was not
 * captured is like what is not there: a read beyond it fails.
 */
#include "events/parse.h"

#include <stddef.h>
#include <string.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct nk_captured {
	struct __sk_buff skb;	/* first: a pointer to it is one to this */
	const __u8 *bytes;
	__u32 size;
};

static long load_bytes(const struct __sk_buff *skb, __u32 offset, void *to, __u32 length)
{
	const struct nk_captured *captured = (const struct nk_captured *)skb;

	if (offset > captured->size || length > captured->size - offset)
		return -1;
	memcpy(to, captured->bytes + offset, length);
	return 0;
}

static long loop(__u32 times, long (*step)(__u32 index, void *context), void *context)
{
	for (__u32 i = 0; i < times; i++)
		if (step(i, context))
			break;
	return 0;
}

#define bpf_skb_load_bytes load_bytes
#define bpf_loop(times, step, context, flags) loop(times, step, context)

#include <netkit_bpf/packet.h>

void nk_parse(struct nk_event *event, const __u8 *bytes, __u32 captured, __u32 length)
{
	struct nk_captured packet = { .skb.len = length, .bytes = bytes, .size = captured };

	memset(event, 0, sizeof(*event));
	event->length = length;
	nk_read_packet(&packet.skb, event);
}
