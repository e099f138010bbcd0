# SPDX-License-Identifier: MIT
"""Events in batches: the same ones as by iteration, each once, and counted."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy
import pyarrow
import pytest

from capture_file import CaptureFile
from corpus import all_packets
from decoder import decode
from native import PAIR, PROGRAMS, Native, on_both_sides
from netkit_bpf import EventBatch, PacketEvent, Side, SideStats, _core
from packets import ipv4, ipv6, tcp, udp
from tables import check_array, row

CORPUS = [frame for group in all_packets().values() for frame in group.values()]
FRAMES = {Side.PRIMARY: ipv6(6, tcp()), Side.PEER: ipv4(17, udp())}
FULL_RING = 43_000  # events; they fit the ring even if the reader's thread never runs
# An emulated machine is some 20 times slower.
MANY = 860_000 if not Path("/sys/firmware/qemu_fw_cfg").exists() else 86_000
RECORD = _core.RECORD_SIZE  # bytes of an event in the ring and in the queue


def read_batch(
    native: Native, most: int = 1 << 40, *, timeout: float = 10.0, merge: bool = True, with_data: bool = False
) -> EventBatch:
    return EventBatch._of(_core.EventBatch.read(native.stream, most, timeout, merge, with_data))


def read_all(native: Native, count: int) -> list[EventBatch]:
    """Read batches until they have that many events."""
    batches: list[EventBatch] = []
    while count:
        batches.append(read_batch(native, count))
        assert batches[-1], f"{count} events are missing"
        count -= len(batches[-1])
    return batches


def account(native: Native) -> list[SideStats]:
    stats = [SideStats(*each) for each in native.stream.stats()]
    assert all(each.seen == each.delivered + each.lost + each.pending for each in stats), stats
    return stats


def without_time(event: PacketEvent) -> dict[str, object]:
    fields = event.asdict()
    del fields["timestamp_ns"]
    return fields


@pytest.fixture
def fresh() -> Iterator[Native]:
    """Programs of which nothing was counted yet."""
    with Native() as loaded:
        yield loaded


def test_every_kind_of_packet_is_the_same_in_every_form(native: Native) -> None:
    """By iteration, as an event of a batch, in numpy and in Arrow; and as an independent decoder sees it."""
    sent = [(side, frame) for side, frame in on_both_sides(CORPUS) if native.send(side, frame)]
    one_by_one = [native.stream.read(10.0) for _ in sent]
    for side, frame in sent:
        native.send(side, frame)
    batch = EventBatch.concat(read_all(native, len(sent)))
    assert len(sent) > 200
    assert [without_time(event) for event in batch] == [without_time(event) for event in one_by_one if event]
    assert [without_time(event) for event in batch] == [decode(frame, side=side, pair=PAIR) for side, frame in sent]
    check_array(batch)
    table = pyarrow.record_batch(batch)
    table.validate(full=True)
    times = table.column("timestamp_ns").cast("int64").to_pylist()
    assert times == sorted(event.timestamp_ns for event in batch)
    rows = table.drop_columns("timestamp_ns").to_pylist()
    assert [{"timestamp_ns": time, **rest} for time, rest in zip(times, rows, strict=True)] == list(map(row, batch))


@pytest.mark.parametrize("merge", [True, False])
def test_the_first_bytes_of_every_packet_go_with_its_event(merge: bool, tmp_path: Path) -> None:
    with Native(snaplen=100) as native:
        sent = [frame for side, frame in on_both_sides(CORPUS) if native.send(side, frame)]
        batches: list[EventBatch] = []
        while sum(map(len, batches)) < len(sent):
            batches.append(read_batch(native, merge=merge, with_data=True))
    batch = EventBatch.concat(batches)
    assert [event.data for event in batch] == [frame[:100] for frame in sent]
    assert pyarrow.record_batch(batch).column("data").to_pylist() == [frame[:100] for frame in sent]
    check_array(batch)
    batch.to_pcapng(tmp_path / "batch.pcapng")
    written = CaptureFile(tmp_path / "batch.pcapng").packets
    assert [(packet.data, packet.length) for packet in written] == [(frame[:100], len(frame)) for frame in sent]
    assert [packet.interface for packet in written] == [list(PROGRAMS).index(event.side) for event in batch]
    assert [packet.time_ns for packet in written] == [event.timestamp_ns for event in batch]


def test_times_are_those_of_the_clock(native: Native) -> None:
    before = time.time_ns()
    native.send(Side.PEER, FRAMES[Side.PEER], count=1000)
    times = numpy.asarray(EventBatch.concat(read_all(native, 1000)))["timestamp_ns"]
    assert before - 10**6 <= times.min() <= times.max() <= time.time_ns() + 10**6
    assert (numpy.diff(times) >= 0).all()


def test_a_batch_is_delivered_and_what_is_left_of_it_pending(fresh: Native) -> None:
    for side in PROGRAMS:
        fresh.send(side, FRAMES[side], count=10_000)
    delivered = [0, 0]
    while sum(delivered) < 20_000:
        batch = read_batch(fresh, 777)
        assert 0 < len(batch) <= 777
        for i, count in enumerate(numpy.bincount(numpy.asarray(batch)["side"], minlength=2).tolist()):
            delivered[i] += count
        assert [each.delivered for each in account(fresh)] == delivered
    assert [each.delivered for each in account(fresh)] == [10_000, 10_000]
    assert not read_batch(fresh, timeout=0)


def test_readers_of_all_kinds_share_one_order(fresh: Native) -> None:
    fresh.send(Side.PEER, FRAMES[Side.PEER], count=30_000)
    times: list[int] = []
    events = fresh.stream.events(10.0)
    while len(times) < 30_000:
        batch = read_batch(fresh, 100, merge=len(times) % 3 == 0)
        times += numpy.asarray(batch)["timestamp_ns"].tolist()
        if len(times) < 30_000:
            times.append(next(events).timestamp_ns)
    assert times == sorted(times)
    assert len(times) == 30_000
    assert account(fresh)[1] == (30_000, 30_000, 0, 0)


def test_all_that_waits_makes_one_batch(fresh: Native) -> None:
    count = 3 * FULL_RING
    for sent in range(1, 4):
        fresh.send(Side.PEER, FRAMES[Side.PEER], count=FULL_RING)
        wait_for_queue(fresh, sent * FULL_RING)
    first = read_batch(fresh, count - 1)
    assert len(first) == count - 1
    assert len(read_batch(fresh)) == 1
    times = numpy.asarray(first)["timestamp_ns"]
    assert (numpy.diff(times) >= 0).all()
    check_array(first[::9999])


def wait_for_queue(native: Native, count: int) -> None:
    """Until the reader's thread has fetched that many events."""
    while native.stream.limits()[1] < count * RECORD:
        time.sleep(0.001)


def test_many_events_on_many_readers_are_each_read_once(fresh: Native) -> None:
    """By batches of both kinds and by iteration at once."""
    rounds = MANY // 2 // FULL_RING
    seen: list[list[int]] = [[], [], []]

    def by_batch(merge: bool, to: list[int]) -> None:
        while batch := read_batch(fresh, 10_000, timeout=60.0, merge=merge):
            to += numpy.asarray(batch)["timestamp_ns"].tolist()

    def one_by_one(to: list[int]) -> None:
        to += [event.timestamp_ns for event in fresh.stream.events(60.0)]

    threads = [
        threading.Thread(target=by_batch, args=(True, seen[0])),
        threading.Thread(target=by_batch, args=(False, seen[1])),
        threading.Thread(target=one_by_one, args=(seen[2],)),
    ]
    for thread in threads:
        thread.start()
    for _ in range(rounds):
        for side in PROGRAMS:
            fresh.send(side, FRAMES[side], count=FULL_RING)
            while sum(each.pending for each in account(fresh)) > 1000:
                time.sleep(0.001)
    while sum(each.pending for each in account(fresh)):
        time.sleep(0.001)
    fresh.stream.close()
    for thread in threads:
        thread.join()
    assert account(fresh) == [(MANY // 2, MANY // 2, 0, 0)] * 2
    assert sum(map(len, seen)) == MANY
    assert all(times == sorted(times) for times in seen)


def test_memory_stays_where_it_is_over_many_batches(fresh: Native) -> None:
    """However they are used; and batches of a few events keep no blocks."""
    kept: list[EventBatch] = []

    def rounds(count: int) -> int:
        for _ in range(count):
            fresh.send(Side.PEER, FRAMES[Side.PEER], count=20_000)
            for batch in read_all(fresh, 20_000):
                pyarrow.record_batch(batch)
                numpy.asarray(batch[batch[0].length :])["length"].sum()
            for _ in range(5):
                fresh.send(Side.PEER, FRAMES[Side.PEER])
                kept.append(read_batch(fresh, merge=False))
        gc.collect()
        return resident()

    sizes = [rounds(20) for _ in range(5)]
    assert min(after - before for before, after in pairwise(sizes)) < 1 << 20, sizes
    assert sum(map(len, kept)) == len(kept) == 500


def resident() -> int:
    """Bytes of this process in memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
