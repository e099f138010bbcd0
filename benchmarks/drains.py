"""Rings that are full before anybody reads, and are then read empty; nanoseconds an event."""

from __future__ import annotations

import contextlib
import mmap
import os
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import consumers
import wire
from producer import CONSUMER_CPU, PACKET, flood, pinned

from netkit_bpf import BPFObject, Monitor

if TYPE_CHECKING:
    from netkit_bpf import PacketEvent

EVENTS = 43_000  # a ring of 4 MiB holds 43,690


def of_peer(build: Path, command: list[str | Path], *mode: str) -> float:
    """Fill the ring and have it read, three times: the first finds neither memory nor caches warm."""
    with consumers.loaded(consumers.MONITOR, "monitor_primary") as (program, ring):
        with subprocess.Popen(
            [*pinned(CONSUMER_CPU), *command, str(ring), *mode],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as reader:
            assert reader.stdin is not None
            assert reader.stderr is not None
            assert reader.stderr.readline() == "ready\n"
            spent = []
            for _ in range(3):
                flood(build, program, burst=EVENTS, rate=0, seconds=1e-9)  # one burst
                reader.stdin.write("\n")
                reader.stdin.flush()
                events, nanoseconds = reader.stderr.readline().split()
                assert int(events) == EVENTS
                spent.append(float(nanoseconds))
    return min(spent) / EVENTS


def of_monitor(build: Path, consume: Callable[[Monitor], int]) -> float:
    """The same with a monitor. The ring is full before anybody looks: without a thread nobody does."""
    spent = []
    with _on_cpu(CONSUMER_CPU), wire.pair() as pair, Monitor(pair, sides=["primary"], thread=None) as monitor:
        (attached,) = pair.programs("primary").programs
        for _ in range(3):
            flood(build, attached.id, burst=EVENTS, rate=0, seconds=1e-9)
            begin = time.perf_counter_ns()
            taken = consume(monitor)
            spent.append(time.perf_counter_ns() - begin)
            assert taken == EVENTS, f"{taken} of {EVENTS}"
    return min(spent) / EVENTS


def copy_ring(build: Path) -> float:
    """Do no more than copy what a full ring holds, in pieces as large as the reader's blocks."""
    import numpy as np

    piece = 512 << 10
    with _on_cpu(CONSUMER_CPU), BPFObject.open(consumers.MONITOR) as opened:
        flood(build, opened.programs["monitor_primary"].id, burst=EVENTS, rate=0, seconds=1e-9)
        size = mmap.PAGESIZE + consumers.RING
        with mmap.mmap(
            opened.maps["events"]._fileno(), size, mmap.MAP_SHARED, mmap.PROT_READ, offset=mmap.PAGESIZE
        ) as view:
            ring = np.frombuffer(view, np.uint8, offset=mmap.PAGESIZE)
            block = np.ones(piece, np.uint8)
            begin = time.perf_counter_ns()
            for start in range(0, ring.size, piece):
                np.copyto(block, ring[start : start + piece])
            elapsed = time.perf_counter_ns() - begin
            del ring
    return elapsed / (consumers.RING / Monitor.RECORD_SIZE)


def loop_at_hand(build: Path) -> float:
    """Do what `iterate` does with events that are there already, and in the cache."""
    with _on_cpu(CONSUMER_CPU), wire.pair() as pair, Monitor(pair, sides=["primary"], thread=None) as monitor:
        (attached,) = pair.programs("primary").programs
        flood(build, attached.id, burst=50, rate=0, seconds=1e-9)
        events = list(monitor.events(timeout=0)) * 1000
        spent = []
        for _ in range(3):
            begin = time.perf_counter_ns()
            _use(events)
            spent.append(time.perf_counter_ns() - begin)
    return min(spent) / len(events)


@contextlib.contextmanager
def _on_cpu(cpu: int) -> Iterator[None]:
    """Keep this thread on one CPU, if there are more."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu} & before or before)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def count_batches(monitor: Monitor) -> int:
    taken = 0
    for batch in monitor.batches(timeout=0):
        taken += len(batch)
    return taken


def sum_batches(monitor: Monitor) -> int:
    import numpy as np

    taken = total = 0
    for batch in monitor.batches(timeout=0):
        total += int(np.asarray(batch)["length"].sum())
        taken += len(batch)
    assert total == taken * len(PACKET)
    return taken


def iterate(monitor: Monitor) -> int:
    return _use(monitor.events(timeout=0))


def _use(events: Iterable[PacketEvent]) -> int:
    taken = 0
    for event in events:
        event.src_port  # noqa: B018 - the access is what is measured
        event.payload_len  # noqa: B018
        taken += 1
    return taken


def print_events(monitor: Monitor) -> int:
    taken = 0
    with Path("/dev/null").open("w") as nowhere:
        for event in monitor.events(timeout=0):
            print(event, file=nowhere)
            taken += 1
    return taken


def print_batches(monitor: Monitor) -> int:
    """Print as the command does."""
    taken = 0
    with Path("/dev/null").open("w") as nowhere:
        while batch := monitor.read_batch(1024, timeout=0):
            print("\n".join(map(str, batch)), file=nowhere)
            taken += len(batch)
    return taken
