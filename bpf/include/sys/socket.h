/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The only thing that the kernel's headers need from the C library, which has no headers for BPF: linux/if.h, and so
 * linux/icmp.h, use struct sockaddr.
 */
#ifndef NETKIT_BPF_SYS_SOCKET_H
#define NETKIT_BPF_SYS_SOCKET_H

#include <linux/socket.h>

struct sockaddr {
	__kernel_sa_family_t sa_family;
	char sa_data[14];
};

#endif
