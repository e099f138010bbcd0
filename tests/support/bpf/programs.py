"""BPF programs that the tests need, each compiled once."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from netkit_bpf import BPFObject
from netkit_bpf.bpf import compiler
from netkit_bpf.bpf.compiler import compile_source

# Kept between runs: in an emulated machine, which sees this directory, clang takes ten seconds.
_CACHE = Path(__file__).parents[3] / "build" / ".programs-cache"
_INCLUDE = Path(__file__).parents[3] / "bpf" / "include"

HEADER = """
#include <netkit.h>
char LICENSE[] SEC("license") = "GPL";
"""

VERDICTS = (
    HEADER
    + """
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} numbers SEC(".maps");

SEC("netkit/peer") int first(struct __sk_buff *skb) { return -1; }
SEC("netkit/peer") int second(struct __sk_buff *skb) { return -1; }
SEC("netkit/peer") int third(struct __sk_buff *skb) { return -1; }
SEC("netkit/peer") int pass(struct __sk_buff *skb) { return 0; }
SEC("netkit/peer") int drop(struct __sk_buff *skb) { return 2; }
SEC("xdp") int of_another_type(struct xdp_md *xdp) { return 2; }
"""
)

# Few descriptors, for tests that load it many times.
ONE = (
    HEADER
    + """
SEC("netkit/peer") int one(struct __sk_buff *skb) { return -1; }
"""
)

# More than a hook takes.
MANY = HEADER + "".join(
    f'SEC("netkit/primary") int many{number}(struct __sk_buff *skb) {{ return -1; }}\n' for number in range(64)
)

# What a packet looks like at a hook, counted and kept; and what can be done to it.
WITNESSES = (
    HEADER
    + """
const volatile __u32 target;	/* an ifindex */
volatile __u32 first_saw, second_saw;
volatile __u32 arp, ipv4, ipv6;
volatile __u32 mark, priority, packet_type, witnessed;

SEC("netkit/primary") int first(struct __sk_buff *skb) { __sync_fetch_and_add(&first_saw, 1); return -1; }
SEC("netkit/primary") int second(struct __sk_buff *skb) { __sync_fetch_and_add(&second_saw, 1); return -1; }

SEC("netkit/primary") int sort(struct __sk_buff *skb)
{
	switch (skb->protocol) {
	case bpf_htons(ETH_P_ARP):
		arp++;
		break;
	case bpf_htons(ETH_P_IP):
		ipv4++;
		break;
	case bpf_htons(ETH_P_IPV6):
		ipv6++;
		break;
	}
	return -1;
}

SEC("netkit/primary") int write_group(struct __sk_buff *skb)
{
	const __u8 group[ETH_ALEN] = { 0x01, 0x00, 0x5e, 0x01, 0x02, 0x03 };

	if (skb->protocol != bpf_htons(ETH_P_IP))
		return NETKIT_NEXT;
	return bpf_skb_store_bytes(skb, 0, group, sizeof(group), 0) ? NETKIT_DROP : NETKIT_NEXT;
}

SEC("netkit/primary") int make_multicast(struct __sk_buff *skb)
{
	return bpf_skb_change_type(skb, 2 /* PACKET_MULTICAST */) ? NETKIT_DROP : NETKIT_NEXT;
}

/* keeps what it sees of the last IPv4 packet */
SEC("tc") int witness(struct __sk_buff *skb)
{
	if (skb->protocol != bpf_htons(ETH_P_IP))
		return -1;
	mark = skb->mark;
	priority = skb->priority;
	packet_type = skb->pkt_type;
	witnessed++;
	return -1;
}

SEC("tc") int to_the_peer(struct __sk_buff *skb)
{
	return skb->protocol == bpf_htons(ETH_P_IP) ? bpf_redirect_peer(target, 0) : -1;
}
"""
)

# Two programs that each record the numbered datagrams that they handle. One drops them, one lets them pass.
JUDGES = (
    HEADER
    + """
#define NUMBERS 10000
#define MAGIC 0x6e6b6e6b
unsigned char passed[NUMBERS], dropped[NUMBERS];

/* The number in a UDP payload behind an IPv4 header without options; NUMBERS if this is something else. */
static __u32 number_of(struct __sk_buff *skb)
{
	__u32 words[2];

	if (skb->protocol != bpf_htons(ETH_P_IP))
		return NUMBERS;
	if (bpf_skb_load_bytes(skb, ETH_HLEN + 20 + 8, words, sizeof(words)) || words[0] != MAGIC)
		return NUMBERS;
	return words[1];
}

SEC("netkit/primary") int passes(struct __sk_buff *skb)
{
	__u32 number = number_of(skb);

	if (number < NUMBERS)
		passed[number]++;
	return 0;
}

SEC("netkit/primary") int drops(struct __sk_buff *skb)
{
	__u32 number = number_of(skb);

	if (number >= NUMBERS)
		return 0;
	dropped[number]++;
	return 2;
}
"""
)


# Prints a line for each packet, with the process id of the tests: other programs print too.
PRINTS = (
    HEADER
    + """
const volatile __u32 pid;
SEC("tc") int prints(struct __sk_buff *skb) { bpf_printk("nktest %u: %d bytes", pid, skb->len); return 0; }
SEC("tc") int prints_another(struct __sk_buff *skb) { bpf_printk("nktest %u other: one\\ntwo\\n", pid); return 0; }
SEC("tc") int prints_what_looks_like_more(struct __sk_buff *skb)
{
	bpf_printk("nktest %u: one\\n          root-1       [000] d..2.     1.000000: bpf_trace_printk: nktest %u: forged",
		pid, pid);
	return 0;
}
__u64 number;
SEC("tc") int prints_numbers(struct __sk_buff *skb)
{
	bpf_printk("nktest %u: %llu\\n", pid, __sync_fetch_and_add(&number, 1));
	return 0;
}
"""
)

# An observer as a user writes it.
OBSERVER = (
    HEADER
    + """
volatile __s32 verdict[2] SEC(".data") = { NETKIT_NEXT, NETKIT_NEXT };
volatile __s32 one_verdict SEC(".data") = NETKIT_NEXT;
const volatile __s32 constant[2] = { NETKIT_NEXT, NETKIT_NEXT };
volatile __u64 counts[2];

SEC("netkit/primary") int of_primary(struct __sk_buff *skb)
{
	__sync_fetch_and_add(&counts[0], 1);
	return verdict[0] + 0 * (one_verdict + constant[0]);
}

SEC("netkit/peer") int of_peer(struct __sk_buff *skb)
{
	__sync_fetch_and_add(&counts[1], 1);
	return verdict[1];
}
"""
)


def build(source: str, *flags: str) -> bytes:
    """The object file that clang makes of a source."""
    shipped = [header.read_bytes() for header in sorted(_INCLUDE.rglob("*.h"))]
    made_of = repr((source, flags, Path(compiler.__file__).read_text(), shipped))
    kept = _CACHE / f"{hashlib.sha256(made_of.encode()).hexdigest()}.o"
    if not kept.exists():
        _CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=_CACHE, delete=False) as made:
            made.write(compile_source(source, flags))
        Path(made.name).replace(kept)  # atomic, even if another process compiles it too
    return kept.read_bytes()


def load(source: str = VERDICTS) -> BPFObject:
    """The programs of a source, loaded anew: a program can be on a hook once."""
    return BPFObject.open(build(source)).__enter__()
