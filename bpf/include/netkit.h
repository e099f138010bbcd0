/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Everything that a netkit program needs: the context, the verdicts, the protocol headers, libbpf's helpers.
 *
 * A program is a function in the section "netkit/primary" or "netkit/peer" that takes a struct __sk_buff
 * and returns a verdict. Include vmlinux.h before this file to have the kernel's own types instead.
 */
#ifndef NETKIT_BPF_NETKIT_H
#define NETKIT_BPF_NETKIT_H

#ifndef __VMLINUX_H__
#include <linux/types.h>
#include <linux/bpf.h>
#include <linux/icmp.h>
#include <linux/icmpv6.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <stdbool.h>

#ifndef IFLA_NETKIT_MAX		/* the headers are older than 6.7 */
enum netkit_action {
	NETKIT_NEXT = -1,	/* leave it to the next program; after the last one the packet passes */
	NETKIT_PASS = 0,
	NETKIT_DROP = 2,
	NETKIT_REDIRECT = 7,	/* where bpf_redirect() said */
};
#endif
#endif

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#endif
