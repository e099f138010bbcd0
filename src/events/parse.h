/* SPDX-License-Identifier: MIT */
/* The parser of the BPF programs, for packets that a file holds. */
#ifndef NETKIT_BPF_PARSE_H
#define NETKIT_BPF_PARSE_H

#include <netkit_bpf/event.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Fills the fields of @event that come from the packet: an Ethernet frame of @length bytes, of which @captured are at
 * @bytes. The others, its time, pair and side among them, become zero.
 */
void nk_parse(struct nk_event *event, const __u8 *bytes, __u32 captured, __u32 length);

#ifdef __cplusplus
}
#endif

#endif
