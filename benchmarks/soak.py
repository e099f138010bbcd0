"""A flood for as long as one likes, with consumers that come, go, dawdle and look: nothing may be in doubt, or grow.

    python benchmarks/soak.py [--seconds N] [--rate N] [--seed N]

Needs root, no netkit. Monitors of all kinds stand beside each other: on the shared thread, on one of their own, on the
caller's, with rings by CPU; with small rings and large ones. After each second of flood the account of each must add
up, and at the end this process may not have grown by a mebibyte. The seed that is printed repeats a run.

It runs itself anew with one heap for all threads and no caches of theirs: what the C library keeps in those of sixty
threads grows for an hour, whoever allocates.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import itertools
import os
import random
import select
import sys
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import wire
from producer import PACKET

from netkit_bpf import Monitor, NetkitPair, PacketEvent
from netkit_bpf.bpf.program import Program

KIB = 1 << 10
MOST_GROWTH = 1 << 20
# glibc's, mallopt(3) and "Memory Allocation Tunables" of its manual; others know neither.
ONE_HEAP = {"MALLOC_ARENA_MAX": "1", "GLIBC_TUNABLES": "glibc.malloc.tcache_count=0"}
KINDS: list[dict[str, Any]] = [
    {"thread": "shared"},
    {"thread": "own"},
    {"thread": None},
    {"rings": "percpu"},
    {"rings": "ordered"},
]
SIZES = [(4 * KIB, 4 * KIB), (64 * KIB, 256 * KIB), (4096 * KIB, 4096 * KIB)]
MOST_CONSUMERS = 3  # of a monitor at once; at times it has none
BURSTS = [1, 3, 64, 1000, 20_000]


class Flooded:
    """A monitor, the flood on it and its consumers."""

    def __init__(self, pair: NetkitPair, ring_size: int, queue_size: int, options: dict[str, Any]) -> None:
        self.name = f"{ring_size // KIB} KiB, {options}"
        self.monitor = Monitor(pair, ring_size=ring_size, queue_size=queue_size, **options)
        self._programs = [Program._open_id(pair.programs(side).programs[0].id, "tc") for side in ("primary", "peer")]
        self.read = 0
        self._lock = threading.Lock()

    def flood(self, chance: random.Random, end: float, rate: float) -> None:
        """Send bursts of all sizes, with pauses of all lengths, `rate` packets a second or so."""
        while (now := time.monotonic()) < end:
            burst = chance.choice(BURSTS)
            chance.choice(self._programs).test_run(PACKET, repeat=burst)
            time.sleep(min(chance.random() * 2 * burst / rate, max(0, end - now)))

    def consume(self, chance: random.Random, end: float) -> None:
        """Read in one way after another, and at times not at all."""
        ways: list[Callable[[random.Random, float], int]] = [
            self._iterate,
            self._read,
            self._read_batch,
            self._select,
            self._dawdle,
            self._look,
        ]
        while time.monotonic() < end:
            count = chance.choice(ways)(chance, end)
            with self._lock:
                self.read += count

    def drain(self) -> None:
        """Read what is left, when no more comes."""
        while self.monitor.stats.total.pending:
            self.read += sum(1 for _ in self.monitor.events(0.001))

    def check(self) -> None:
        """Fail unless every packet is accounted for, at a quiet moment."""
        stats = self.monitor.stats
        for side in stats:
            if side.seen != side.delivered + side.lost + side.pending:
                sys.exit(f"{self.name}: {stats}")
        if self.read != stats.total.delivered:
            sys.exit(f"{self.name}: {self.read} events were read, and others delivered: {stats}")

    def _iterate(self, chance: random.Random, end: float) -> int:
        count, newest = 0, 0
        for event in self.monitor.events(chance.choice([0.0, 0.001, 0.01])):
            count += 1
            newest = max(newest, check_event(event))
            if not count % 1000 and (time.monotonic() > end or chance.random() < 0.05):
                break
        return count

    def _read(self, chance: random.Random, _: float) -> int:
        return sum(self.monitor.read(0.001) is not None for _ in range(chance.randrange(100)))

    def _read_batch(self, chance: random.Random, _: float) -> int:
        batch = self.monitor.read_batch(chance.choice([1, 100, 65536]), chance.choice([0.0, 0.01]))
        if batch:
            check_event(batch[chance.randrange(len(batch))])
        return len(batch)

    def _select(self, chance: random.Random, end: float) -> int:
        select.select([self.monitor.fileno()], [], [], chance.random() * 0.01)
        return self._iterate(chance, end)

    def _dawdle(self, chance: random.Random, _: float) -> int:
        time.sleep(chance.random() * 0.2)
        return 0

    def _look(self, chance: random.Random, _: float) -> int:
        str(self.monitor.stats)
        time.sleep(chance.random() * 0.01)
        return 0


def check_event(event: PacketEvent) -> int:
    """Fail unless it is that of the packet; returns its time."""
    if (event.src_port, event.dst_port, event.length) != (40000, 443, len(PACKET)):
        sys.exit(f"no packet was like this: {event!r}")
    return event.timestamp_ns


class Soak:
    """Monitors, and threads that flood and consume."""

    def __init__(self, flooded: list[Flooded], rate: float, chance: random.Random, pool: Executor) -> None:
        self.flooded = flooded
        self._rate = rate / len(flooded)
        self._chance = chance
        self._pool = pool

    def run_round(self, seconds: float) -> None:
        """Flood and consume, then let it be quiet and check."""
        end = time.monotonic() + seconds
        running = []
        for each in self.flooded:
            consumers = self._chance.randrange(MOST_CONSUMERS + 1)
            running.append(self._pool.submit(each.flood, self._another_chance(), end, self._rate))
            running += [self._pool.submit(each.consume, self._another_chance(), end) for _ in range(consumers)]
        for work in running:
            work.result()  # raises what it raised
        for each in self.flooded:
            each.check()
            each.drain()
            each.check()

    def resident(self) -> int:
        """Bytes of memory that this process has of its own, when what lies idle was given back."""
        for each in self.flooded:
            each.monitor.read(0.25)  # what no thread looks after does so only while it is read
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        fields = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
        return int(fields["RssAnon"].split()[0]) * KIB

    def _another_chance(self) -> random.Random:
        return random.Random(self._chance.random())


def main() -> None:
    """Run for the time that was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--rate", type=float, default=100_000, help="packets a second, of all monitors together")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    arguments = parser.parse_args()
    if not ONE_HEAP.items() <= os.environ.items():
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ONE_HEAP})
    chance = random.Random(arguments.seed)
    warnings.simplefilter("ignore", RuntimeWarning)  # that packets are lost: it is meant to be
    print(f"seed {arguments.seed}, {os.cpu_count()} CPUs", flush=True)
    with contextlib.ExitStack() as stack:
        flooded = []
        for options, (ring_size, queue_size) in itertools.product(KINDS, SIZES):
            made = Flooded(stack.enter_context(wire.pair()), ring_size, queue_size, options)
            stack.enter_context(made.monitor)
            flooded.append(made)
        pool = stack.enter_context(ThreadPoolExecutor((1 + MOST_CONSUMERS) * len(flooded)))
        soak(Soak(flooded, arguments.rate, chance, pool), arguments.seconds)


def soak(soaked: Soak, seconds: float) -> None:
    """Round by round, and look what this process takes."""
    for _ in range(20):  # what is allocated once is allocated now
        soaked.run_round(1)
    began, used = time.monotonic(), time.process_time()
    before = most = soaked.resident()
    for number in itertools.count(1):
        soaked.run_round(1)
        elapsed = time.monotonic() - began
        is_over = elapsed > seconds
        if is_over or not number % 60:
            most = max(most, now := soaked.resident())
            print(
                f"{number} rounds, {sum(each.read for each in soaked.flooded)} events,"
                f" {sum(each.monitor.stats.total.lost for each in soaked.flooded)} lost,"
                f" {(now - before) / KIB:+.0f} KiB, {(time.process_time() - used) / elapsed:.2f} cores",
                flush=True,
            )
        if is_over:
            break
    for each in soaked.flooded:
        each.monitor.close()
        each.check()
    if most - before >= MOST_GROWTH:
        sys.exit(f"this process has grown by {most - before} bytes")


if __name__ == "__main__":
    main()
