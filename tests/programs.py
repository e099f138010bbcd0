"""BPF programs that the tests need, compiled from source once a session."""

from __future__ import annotations

import functools
import platform
import subprocess
import tempfile
from pathlib import Path

from netkit_bpf import BPFObject

HEADER = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
char LICENSE[] SEC("license") = "GPL";
"""

VERDICTS = (
    HEADER
    + """
SEC("netkit/peer") int first(struct __sk_buff *skb) { return -1; }
SEC("netkit/peer") int second(struct __sk_buff *skb) { return -1; }
SEC("netkit/peer") int third(struct __sk_buff *skb) { return -1; }
SEC("netkit/peer") int pass(struct __sk_buff *skb) { return 0; }
SEC("netkit/peer") int drop(struct __sk_buff *skb) { return 2; }
SEC("xdp") int of_another_type(struct xdp_md *xdp) { return 2; }
"""
)


@functools.cache
def build(source: str) -> bytes:
    """The object file that clang makes of a source."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "test.c").write_text(source)
        options = ["-target", "bpf", "-O2", "-g", "-idirafter", f"/usr/include/{platform.machine()}-linux-gnu"]
        subprocess.run(["clang", *options, "-c", "test.c", "-o", "test.o"], cwd=directory, check=True)
        return Path(directory, "test.o").read_bytes()


def load(source: str = VERDICTS) -> BPFObject:
    """The programs of a source, loaded anew: a program can be on a hook once."""
    return BPFObject.open(build(source)).__enter__()
