"""Rings of which each CPU has its own: nothing is lost between them, and they can be put in order."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

import pytest

from native import QUEUE, RING, Native, open_stream
from netkit_bpf import Side, _core
from netkit_bpf.events.event import PacketEvent
from netkit_bpf.functions.cpu_rings import make_cpu_rings
from netkit_bpf.functions.monitor_programs import load_programs
from netkit_bpf.internal.arguments import Rings
from packets import ipv6, tcp

CPUS = sorted(os.sched_getaffinity(0))[:2]
FRAME = ipv6(6, tcp())
RECORD = _core.RECORD_SIZE  # bytes, of each packet in a ring
MODES: dict[str, dict[str, Any]] = {
    "on the shared thread": {"rings": "percpu", "thread": "shared"},
    "on a thread of its own": {"rings": "percpu", "thread": "own"},
    "on the caller's thread": {"rings": "percpu", "thread": None},
    "on a thread, in order": {"rings": "ordered"},
    "on the caller's thread, in order": {"rings": "ordered", "thread": None},
}
IN_ORDER = [options for options in MODES.values() if options["rings"] == "ordered"]


@pytest.fixture(params=list(MODES.values()), ids=list(MODES))
def options(request: pytest.FixtureRequest) -> dict[str, Any]:
    made: dict[str, Any] = request.param
    return made


def on_each_cpu(work: Callable[[int], object]) -> list[threading.Thread]:
    """Start it once on each CPU, with its number."""

    def run(cpu: int) -> None:
        os.sched_setaffinity(0, {cpu})  # of this thread alone
        work(cpu)

    threads = [threading.Thread(target=run, args=(cpu,)) for cpu in CPUS]
    for thread in threads:
        thread.start()
    return threads


def join(threads: Sequence[threading.Thread]) -> None:
    for thread in threads:
        thread.join()


def account(native: Native) -> tuple[int, int, int, int]:
    """The sum of both sides, each of which must add up."""
    for side in (stats := native.stream.stats()):
        seen, delivered, lost, pending = side
        assert seen == delivered + lost + pending, stats
    seen, delivered, lost, pending = map(sum, zip(*stats, strict=True))
    return seen, delivered, lost, pending


def numbered(native: Native, count: int) -> Callable[[int], None]:
    """Sends packets that say which CPU they are of and which one they are."""

    def send(cpu: int) -> None:
        for number in range(count):
            native.send(Side.PEER, ipv6(6, tcp(src_port=cpu, dst_port=number)))

    return send


def test_each_cpu_fills_its_own() -> None:
    with Native(rings="percpu", thread=None, ring_size=4096) as native:
        join(on_each_cpu(lambda _: native.send(Side.PEER, FRAME, count=1000)))
        seen, delivered, lost, pending = account(native)
        assert (seen, delivered) == (1000 * len(CPUS), 0)
        assert pending in {4096 // RECORD * len(CPUS), (4096 // RECORD - 1) * len(CPUS)}
        assert native.stream.limits()[0] == pending * RECORD
        assert sum(1 for _ in native.stream.events(0)) == pending
        assert account(native) == (seen, pending, lost, 0)


def test_every_event_of_each_cpu_arrives_once_and_in_its_order(options: dict[str, Any]) -> None:
    count = 400
    with Native(**options) as native:
        threads = on_each_cpu(numbered(native, count))
        events = list(native.stream.events(1.0))
        join(threads)
        for cpu in CPUS:
            assert [event.dst_port for event in events if event.src_port == cpu] == list(range(count))
        assert account(native) == (count * len(CPUS), count * len(CPUS), 0, 0)


def test_a_flood_from_all_cpus_is_accounted_for(options: dict[str, Any]) -> None:
    """With small rings and a queue that is mostly full."""
    with Native(ring_size=1 << 14, queue_size=1 << 14, **options) as native:
        sides = dict(zip(CPUS, (Side.PRIMARY, Side.PEER), strict=False))

        def flood(cpu: int) -> None:
            for _ in range(100):
                native.send(sides[cpu], FRAME, count=100)

        threads = on_each_cpu(flood)
        events = list(native.stream.events(1.0))
        join(threads)
        seen, delivered, _, pending = account(native)
        assert (seen, delivered, pending) == (10_000 * len(CPUS), len(events), 0)


def test_a_full_queue_takes_from_each_ring_in_turn() -> None:
    """A CPU that sends without an end does not keep the others waiting."""
    with Native(rings="percpu", thread=None, ring_size=1 << 16, queue_size=4096) as native:
        join(on_each_cpu(lambda cpu: native.send(Side.PEER, ipv6(6, tcp(src_port=cpu)), count=1000)))
        events = native.stream.events(0)
        for _ in range(3):
            share = [next(events).src_port for _ in range((4096 // RECORD + 1) * len(CPUS))]
            assert {share.count(cpu) for cpu in CPUS} == {4096 // RECORD + 1}


def times(events: Sequence[PacketEvent]) -> list[int]:
    return [event.timestamp_ns for event in events]


@pytest.mark.parametrize("snaplen", [0, 60])
@pytest.mark.parametrize("options", IN_ORDER)
def test_the_events_of_all_cpus_come_in_order(options: dict[str, Any], snaplen: int) -> None:
    with Native(snaplen=snaplen, ring_size=1 << 16, queue_size=1 << 16, **options) as native:
        together = threading.Barrier(len(CPUS))

        def flood(cpu: int) -> None:
            for number in range(400):
                if number % 20 == 0:
                    together.wait()
                native.send(Side.PEER, ipv6(6, tcp(src_port=cpu)), count=1 + number % 30)

        threads = on_each_cpu(flood)
        events = list(native.stream.events(1.0))
        join(threads)
        assert times(events) == sorted(times(events))
        assert account(native)[1::2] == (len(events), 0)
        changes = sum(one.src_port != other.src_port for one, other in itertools.pairwise(events))
        assert changes > 10 or len(CPUS) == 1  # or there was nothing to put in order


def test_one_after_the_other_is_put_in_order_too() -> None:
    """As on a quiet wire: all are there before anybody looks."""
    count = 50
    with Native(rings="ordered", thread=None) as native:
        turns = [threading.Semaphore(int(i == 0)) for i in range(len(CPUS))]

        def send(cpu: int) -> None:
            place = CPUS.index(cpu)
            for number in range(count):
                turns[place].acquire()
                native.send(Side.PEER, ipv6(6, tcp(src_port=cpu, dst_port=number)))
                turns[(place + 1) % len(CPUS)].release()

        join(on_each_cpu(send))
        events = list(native.stream.events(0))
        expected = [(cpu, number) for number in range(count) for cpu in CPUS]
        assert [(event.src_port, event.dst_port) for event in events] == expected
        assert account(native) == (len(expected), len(expected), 0, 0)


@pytest.mark.parametrize("options", IN_ORDER)
def test_an_event_is_there_at_once_in_order_too(options: dict[str, Any]) -> None:
    with Native(**options) as native:
        for _ in range(100):
            assert native.stream.read(0) is None
            native.send(Side.PEER, FRAME)
            assert native.stream.read(0) is not None


@pytest.mark.parametrize("snaplen", [0, 60])
@pytest.mark.parametrize("rings", ["percpu", "ordered"])
def test_a_cpu_without_a_ring_uses_the_shared_one(rings: Rings, snaplen: int) -> None:
    """As one that came online later."""
    with closing(load_programs(0, RING, None, snaplen, rings=rings)) as obj:
        program = obj._core
        assert program is not None
        stream = open_stream(program, QUEUE, ["nk0"], rings=rings)
        join(on_each_cpu(lambda _: program.test_run("monitor_peer", FRAME, repeat=1000)))
        assert sum(1 for _ in stream.events(0.3)) == 1000 * len(CPUS)
        assert stream.stats()[1] == (1000 * len(CPUS), 1000 * len(CPUS), 0, 0)
        stream.close()


def test_pairs_share_the_rings_of_all_cpus() -> None:
    with (
        closing(load_programs(0, RING, rings="percpu")) as first,
        closing(load_programs(1, RING, first, rings="percpu")) as second,
    ):
        assert first._core is not None
        rings = [ring._open() for ring in make_cpu_rings(first, RING)]
        stream = open_stream(first._core, QUEUE, ["nk0", "nk1"], maps=rings)
        programs = [obj.programs["monitor_peer"] for obj in (first, second)]
        join(on_each_cpu(lambda _: [program.test_run(FRAME) for program in programs]))
        pairs = [event.pair_name for event in stream.events(0.3)]
        assert sorted(str(pair) for pair in pairs) == ["nk0"] * len(CPUS) + ["nk1"] * len(CPUS)
        assert stream.stats()[1] == (2 * len(CPUS), 2 * len(CPUS), 0, 0)
        stream.close()
