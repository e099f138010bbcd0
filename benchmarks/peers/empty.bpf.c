// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* What BPF_PROG_TEST_RUN itself costs: to be taken off every other figure. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual MIT/GPL";

SEC("netkit/primary")
int empty(struct __sk_buff *skb)
{
	return skb->len ? -1 : 0;
}
