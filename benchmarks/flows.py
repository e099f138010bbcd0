"""What it costs to count a packet in its flow, of one flow and of many, beside the kernel's own hashes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from producer import PRODUCER_CPU

from netkit_bpf import BPFObject, FlowReader, Program
from netkit_bpf.functions.metrics import load_programs, read_clock

SLOTS = 65536
# One of TCP over IPv4, whose source each run of `vary` changes.
PACKET = bytes(12) + b"\x08\x00" + bytes.fromhex("45000028 00000000 40060000 0a000001 0a000002")
PACKET += bytes.fromhex("9c4001bb 00000000 00000000 50100000 00000000")
RING = 16 << 20  # holds what a run brings: the reader has a CPU of its own, but others may be on it
REPEAT = 100_000
RUNS = 20
WARM = 8  # runs, so that all flows have come by
FLOWS = {"one flow": 1, "4,096 flows": 4096, "60,000 flows": SLOTS, "four times more flows than slots": 4 * SLOTS}
PEERS = {
    "PERCPU_HASH": "count_percpu",
    "LRU_HASH": "count_lru",
    "hash, spin lock, ktime": "count_locked",
    "the key and two lines of memory": "touch_by_key",  # of ours, which any packet has: the least that ours could take
    "two lines of memory": "touch",  # as many as a flow takes that is found at once: the least there is
}


def measure(build: Path) -> Iterator[tuple[str, float]]:
    """Nanoseconds a packet, net of a program that does nothing."""
    for text, flows in FLOWS.items():
        with _peers(build, flows) as peers:
            base = _cost(peers, peers.programs["nothing"])
            yield f"flows: ours, {text}, ns", _ours(peers) - base
            for name, program in PEERS.items():
                yield f"flows: {name}, {text}, ns", _cost(peers, peers.programs[program]) - base


def _peers(build: Path, flows: int) -> BPFObject:
    peers = BPFObject.open(build / "flows.o")
    peers.variables["flow_mask"].value = flows - 1
    peers.load()
    return peers


def _ours(peers: BPFObject) -> float:
    """With a reader, as always; nothing is lost."""
    with load_programs(0, 1, SLOTS, RING) as loaded:
        maps = loaded.maps
        reader = FlowReader(
            maps["flow_sets"],
            maps["evicted"],
            maps["unattributed"],
            pair_names=["nk0"],
            clock=read_clock(loaded),
        )
        with reader:
            cost = _cost(peers, loaded.programs["metrics_primary"], lambda: len(reader.snapshot()))
            table = reader.snapshot()
            assert table.total.packets == (WARM + RUNS) * REPEAT, table
            assert all(flow.is_attributed for flow in table.top(10, "flows")), table
    return cost


def _cost(peers: BPFObject, program: Program, between: Callable[[], object] = int) -> float:
    """Of the quickest run, by a clock that has fractions of what the kernel tells; `between` is called after each."""
    peers.maps["next"][0] = program
    vary = peers.programs["vary"]
    cpus = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {PRODUCER_CPU})  # this thread alone: the reader's is on another one
    try:
        took = []
        for _ in range(WARM + RUNS):
            start = time.perf_counter_ns()
            vary.test_run(PACKET, repeat=REPEAT)
            took.append((time.perf_counter_ns() - start) / REPEAT)
            between()
        return min(took[WARM:])
    finally:
        os.sched_setaffinity(0, cpus)
