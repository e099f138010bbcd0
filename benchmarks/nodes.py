"""Monitors of many pairs: of veth devices, whose tcx hooks take the same programs in the same way.

What attaching and detaching take is the kernel's grace periods, one for each program: the limit is what a program that
is loaded already takes.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator

from devices import create
from netkit_bpf import BPFObject, Link, Monitor, NetkitPair, NetNS, Side
from netkit_bpf.bpf.shipped import program_file

PAIRS = 100


def opening_and_closing() -> Iterator[tuple[str, float]]:
    """Milliseconds a pair, and descriptors."""
    with NetNS.create() as hub, NetNS.create() as node:
        pairs = create(hub, node, [f"v{number}" for number in range(PAIRS)])
        try:
            yield from zip(
                ("node: attach ready programs, ms a pair", "node: detach them, ms a pair"), _raw(pairs), strict=True
            )
            before = _descriptors()
            begin = time.perf_counter()
            monitor = Monitor(*pairs)
            opened = time.perf_counter()
            descriptors = _descriptors() - before
            closing = time.perf_counter()
            monitor.close()
            closed = time.perf_counter()
            yield "node: open a monitor, ms a pair", 1e3 * (opened - begin) / PAIRS
            yield "node: close it, ms a pair", 1e3 * (closed - closing) / PAIRS
            yield "node: descriptors of a monitor", descriptors
            yield "node: 3 descriptors a pair and 30", 3 * PAIRS + 30
        finally:
            for pair in pairs:
                pair.delete()


def _raw(pairs: list[NetkitPair]) -> tuple[float, float]:
    """The same programs on the same hooks, loaded once."""
    with BPFObject.open(program_file("monitor")) as ready, contextlib.ExitStack() as links:
        begin = time.perf_counter()
        attached: list[Link] = []
        for pair in pairs:
            for side in Side:
                link = pair.attach(ready.programs[f"monitor_{side}"], side)
                attached.append(links.enter_context(link))
        opened = time.perf_counter()
        for link in attached:
            link.detach()
        closed = time.perf_counter()
    return 1e3 * (opened - begin) / len(pairs), 1e3 * (closed - opened) / len(pairs)


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))
