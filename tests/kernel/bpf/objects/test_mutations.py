"""Damaged object files end in typed errors, whatever libbpf would make of them."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import mutate_object
from programs import HEADER, build

SEED = os.environ.get("NETKIT_BPF_SEED") or str(random.randrange(1 << 32))
COUNT = int(os.environ.get("NETKIT_BPF_OBJECT_MUTATIONS", "2000"))

# A little of everything that an object can hold.
SOURCE = (
    HEADER
    + """
struct sk_buff { unsigned int len; } __attribute__((preserve_access_index));
enum kind { NOTHING, SOMETHING = 7 };
struct flow { __u64 packets; enum kind kind; char name[8]; __u32 low : 4, high : 12; union { __u8 a[4]; __u32 b; }; };
struct inner { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, __u32); __type(value, __u64); };

struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 16); __type(key, __u32); __type(value, struct flow); }
	flows SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); __type(value, struct flow); } ring SEC(".maps");
struct inner first SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS); __uint(max_entries, 2); __type(key, __u32);
	__array(values, struct inner); } outer SEC(".maps") = { .values = { &first } };
int tail(struct __sk_buff *skb);
struct { __uint(type, BPF_MAP_TYPE_PROG_ARRAY); __uint(max_entries, 2); __uint(key_size, 4);
	__array(values, int (void *)); } next SEC(".maps") = { .values = { (void *)&tail } };

extern int LINUX_KERNEL_VERSION __kconfig;
extern int CONFIG_NIX __kconfig __weak;
extern void bpf_nix(void) __ksym __weak;
const volatile __u16 port = 80;
const volatile char *text = "text";
volatile struct flow state = { .kind = SOMETHING };
volatile __u64 counts[4];
volatile int apart SEC(".data.apart") = 1;

static __noinline int helper(struct __sk_buff *skb) { return skb->len > port; }
__noinline int global_helper(struct __sk_buff *skb) { return helper(skb) + apart; }
static long each(__u32 index, void *context) { counts[index & 3]++; return 0; }

SEC("netkit/primary") int tail(struct __sk_buff *skb) { return global_helper(skb); }
SEC("netkit/primary") int head(struct __sk_buff *skb)
{
	__u32 key = skb->mark, zero = 0, length = 0;
	struct flow *flow = bpf_map_lookup_elem(&flows, &key);
	void *inner = bpf_map_lookup_elem(&outer, &zero);

	if (flow)
		flow->packets++;
	if (inner && bpf_map_lookup_elem(inner, &zero))
		state.packets = LINUX_KERNEL_VERSION + CONFIG_NIX;
	bpf_probe_read_kernel(&length, 4, &((struct sk_buff *)skb)->len);
	bpf_loop(4, each, 0, 0);
	bpf_tail_call(skb, &next, 0);
	return global_helper(skb) + length;
}
"""
)


@pytest.mark.timeout(60 + COUNT // 20)
def test_a_damaged_object_is_refused_or_harmless(tmp_path: Path) -> None:
    (tmp_path / "object.o").write_bytes(build(SOURCE))
    script = Path(mutate_object.__file__)
    command: list[str | Path] = [
        sys.executable,
        script,
        tmp_path / "object.o",
        tmp_path,
        tmp_path / "progress",
        SEED,
        str(COUNT),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    at = (tmp_path / "progress").read_text().strip()
    end = signal.Signals(-done.returncode).name if done.returncode < 0 else done.returncode
    assert done.returncode == 0, f"{end} at mutation {at} of NETKIT_BPF_SEED={SEED}:\n{done.stderr}"
    print(f"NETKIT_BPF_SEED={SEED}: {done.stdout}")
    assert "'OSError'" in done.stdout
    assert "'loaded'" in done.stdout
