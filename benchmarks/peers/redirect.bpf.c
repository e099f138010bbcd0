// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * What a load balancer is compared with: sending a packet on and nothing else, and giving it another destination by
 * helpers alone, as most examples do. Neither looks anything up.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <stddef.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual MIT/GPL";

#define CHECK (ETH_HLEN + offsetof(struct iphdr, check))
#define ADDRESS (ETH_HLEN + offsetof(struct iphdr, daddr))
#define TRANSPORT (ETH_HLEN + sizeof(struct iphdr))
#define PORT (TRANSPORT + offsetof(struct tcphdr, dest))
#define TCP_CHECK (TRANSPORT + offsetof(struct tcphdr, check))

const volatile __be32 address;
const volatile __be16 port;

SEC("tc")
int redirect(struct __sk_buff *skb __attribute__((unused)))
{
	return bpf_redirect(1, 0);
}

SEC("tc")
int by_helpers(struct __sk_buff *skb)
{
	__be32 to = address, from;
	__be16 to_port = port, from_port;

	if (bpf_skb_load_bytes(skb, ADDRESS, &from, sizeof(from)) || bpf_skb_load_bytes(skb, PORT, &from_port, sizeof(from_port)))
		return 2;
	bpf_l4_csum_replace(skb, TCP_CHECK, from, to, BPF_F_PSEUDO_HDR | sizeof(to));
	bpf_l3_csum_replace(skb, CHECK, from, to, sizeof(to));
	bpf_skb_store_bytes(skb, ADDRESS, &to, sizeof(to), 0);
	bpf_l4_csum_replace(skb, TCP_CHECK, from_port, to_port, sizeof(to_port));
	bpf_skb_store_bytes(skb, PORT, &to_port, sizeof(to_port), 0);
	return bpf_redirect(1, 0);
}
