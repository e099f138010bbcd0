// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * The headers that ship with the package for the users' own programs: these, and what they include. Never
 * compiled: the build asks clang only which files these are.
 */
#include <netkit.h>
#include <netkit_bpf/packet.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include <linux/errno.h>
#include <linux/if_arp.h>
#include <linux/if_packet.h>
#include <linux/if_vlan.h>
#include <linux/igmp.h>
#include <linux/mpls.h>
#include <linux/pkt_cls.h>
#include <linux/stddef.h>
