/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* The record of the program that tutorials show: 37 bytes, packed. */
#ifndef SEED_H
#define SEED_H

struct seed_event {
	__u8 side;
	__u8 src[16];
	__u8 dst[16];
	__u8 next_header;
	__u16 payload_len;
	__u8 hop_limit;
} __attribute__((packed));

_Static_assert(sizeof(struct seed_event) == 37, "the record's size");

#endif
