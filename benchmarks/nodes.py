"""Monitors of many pairs: of veth devices, whose tcx hooks take the same programs in the same way.

What attaching and detaching take is the kernel's grace periods, one for each program: the limit is what a program that
is loaded already takes. NETKIT_BPF_PAIRS says how many pairs, "1 1000"; up to 250 have 1,024 descriptors at most.
"""

from __future__ import annotations

import contextlib
import os
import resource
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

from devices import GROUP, create
from netkit_bpf import BPFObject, Link, Monitor, NetkitPair, NetNS, Side
from netkit_bpf.bpf.shipped import program_file
from netkit_bpf.devices.pair import delete_group

SIZES = tuple(int(each) for each in os.environ.get("NETKIT_BPF_PAIRS", "1 16 64 250").split())
REST = 2.0  # seconds
AT_LEAST = 10  # pairs are opened and closed, in all
DEFAULT_LIMIT = 1024  # of descriptors
FITS = 250


def opening_and_closing() -> Iterator[tuple[str, float]]:
    """Milliseconds a pair, descriptors, and what a monitor does at rest."""
    for size in SIZES:
        with _limited(size), NetNS.create() as hub, NetNS.create() as node:
            for netns in (hub, node):
                netns.call(_silence)
            pairs = create(hub, node, [f"v{number}" for number in range(size)])
            try:
                yield from _figures(pairs)
            finally:
                delete_group(GROUP, hub)


def _silence() -> None:
    """Devices that are made later in this namespace send nothing by themselves."""
    Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1")


def _figures(pairs: list[NetkitPair]) -> Iterator[tuple[str, float]]:
    size = len(pairs)
    runs = [(*_raw(pairs), *_monitor(pairs)) for _ in range(max(1, AT_LEAST // size))]
    columns = (
        "attach ready programs, ms a pair",
        "detach them, ms a pair",
        "open a monitor, ms a pair",
        "close it, ms a pair",
        "descriptors of a monitor",
        "wake-ups a second at rest",
        "CPU at rest, %",
    )
    for name, *values in zip(columns, *runs, strict=True):
        yield f"node of {size}: {name}", statistics.median(map(float, values))
    yield f"node of {size}: 3 descriptors a pair and 30", 3 * size + 30


def _monitor(pairs: list[NetkitPair]) -> tuple[float, ...]:
    before = _descriptors()
    begin = time.perf_counter()
    monitor = Monitor(*pairs)
    opened = time.perf_counter()
    descriptors = _descriptors() - before
    time.sleep(REST / 2)  # what opening began has ended
    switches, busy = _switches(), time.process_time()
    time.sleep(REST)
    switches, busy = _switches() - switches, time.process_time() - busy
    closing = time.perf_counter()
    monitor.close()
    closed = time.perf_counter()
    return (
        1e3 * (opened - begin) / len(pairs),
        1e3 * (closed - closing) / len(pairs),
        descriptors,
        (switches - 1) / REST,  # this thread's sleep
        100 * busy / REST,
    )


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


@contextlib.contextmanager
def _limited(pairs: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (DEFAULT_LIMIT if pairs <= FITS else hard, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def _switches() -> int:
    """How often a thread of this process was put on a processor because it had waited."""
    found = 0
    for status in Path("/proc/self/task").glob("*/status"):
        lines = status.read_text().splitlines()
        found += sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches"))
    return found
