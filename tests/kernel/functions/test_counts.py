# SPDX-License-Identifier: MIT
"""No packet goes uncounted: each one seen is delivered, lost or pending, however many come and whoever reads."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing

import pytest

from native import PROGRAMS, QUEUE, RING, Native
from netkit_bpf import PacketReader, Side, SideStats, _core
from netkit_bpf.events.event import PacketEvent
from netkit_bpf.functions.monitor_programs import load_programs
from packets import ipv4, ipv6, tcp, udp

SMALLEST = 4096  # bytes of a ring; of a queue too
RECORD = _core.RECORD_SIZE  # bytes of a packet in the ring: an 8-byte header and the event
# The ring is never quite full, and a queue may be one record above its size.
MOST_PENDING = 2 * SMALLEST // RECORD + 1
FRAMES = {Side.PRIMARY: ipv6(6, tcp()), Side.PEER: ipv4(17, udp())}
FLOOD = 20_000


@pytest.fixture
def small() -> Iterator[Native]:
    """The programs with the smallest ring and queue."""
    with Native(ring_size=SMALLEST, queue_size=SMALLEST) as loaded:
        yield loaded


def account(native: Native) -> dict[Side, SideStats]:
    """Take the stats of each side; they must add up at every quiet moment."""
    stats = {side: SideStats(*each) for side, each in zip(PROGRAMS, native.stream.stats(), strict=True)}
    for side, each in stats.items():
        assert each.seen == each.delivered + each.lost + each.pending, (side, each)
    return stats


def read_all(native: Native) -> list[PacketEvent]:
    """Read what is pending; the account must add up after each event."""
    events: list[PacketEvent] = []
    while sum(each.pending for each in account(native).values()):
        event = native.stream.read(10.0)
        assert event is not None
        events.append(event)
    assert native.stream.read(0) is None
    return events


def flood(native: Native, side: Side, cpu: int, count: int, rounds: int, failures: list[BaseException]) -> None:
    """Send from one CPU."""
    try:
        os.sched_setaffinity(0, {cpu})
        for _ in range(rounds):
            native.send(side, FRAMES[side], count=count)
    except BaseException as error:
        failures.append(error)


def flood_both(native: Native, count: int, rounds: int = 1) -> Iterator[threading.Thread]:
    """Send on both sides at once, each from a CPU of its own where there are two; gives the threads, then joins."""
    cpus = sorted(os.sched_getaffinity(0))
    failures: list[BaseException] = []
    threads = [
        threading.Thread(target=flood, args=(native, side, cpu, count, rounds, failures))
        for side, cpu in zip(PROGRAMS, (cpus[0], cpus[-1]), strict=True)
    ]
    for thread in threads:
        thread.start()
    yield from threads
    for thread in threads:
        thread.join()
    assert not failures


def test_nothing_is_counted_before_the_first_packet(small: Native) -> None:
    assert set(account(small).values()) == {SideStats(0, 0, 0, 0)}


def test_each_packet_is_counted_on_its_side_only(small: Native) -> None:
    small.event(FRAMES[Side.PRIMARY], Side.PRIMARY)
    assert account(small) == {Side.PRIMARY: SideStats(1, 1, 0, 0), Side.PEER: SideStats(0, 0, 0, 0)}
    small.send(Side.PEER, FRAMES[Side.PEER])
    assert account(small) == {Side.PRIMARY: SideStats(1, 1, 0, 0), Side.PEER: SideStats(1, 0, 0, 1)}


def test_what_fits_the_ring_is_never_lost(small: Native) -> None:
    fit = (SMALLEST // RECORD - 1) // 2  # of each side: the record that was read last keeps its room for a while
    for _ in range(20):
        for side in PROGRAMS:
            small.send(side, FRAMES[side], count=fit)
        events = read_all(small)
        assert Counter(event.side for event in events) == dict.fromkeys(PROGRAMS, fit)
    assert [each.lost for each in account(small).values()] == [0, 0]


def test_packets_that_nobody_reads_are_lost_and_counted(small: Native) -> None:
    for sent in range(1, 1001):
        small.send(Side.PEER, FRAMES[Side.PEER])
        assert account(small)[Side.PEER].seen == sent
    stats = account(small)
    assert stats[Side.PRIMARY] == SideStats(0, 0, 0, 0)
    assert stats[Side.PEER].delivered == 0
    assert SMALLEST // RECORD <= stats[Side.PEER].pending <= MOST_PENDING
    assert len(read_all(small)) == stats[Side.PEER].pending
    assert account(small)[Side.PEER] == stats[Side.PEER]._replace(delivered=stats[Side.PEER].pending, pending=0)


def test_a_flood_from_two_cpus_is_counted_to_the_last_packet(small: Native) -> None:
    list(flood_both(small, FLOOD))
    stats = account(small)
    assert [each.seen for each in stats.values()] == [FLOOD, FLOOD]
    assert all(each.lost > 0 for each in stats.values())
    assert sum(each.pending for each in stats.values()) <= MOST_PENDING
    events = read_all(small)
    assert Counter(event.side for event in events) == {
        side: each.pending for side, each in stats.items() if each.pending
    }
    assert [each.lost for each in account(small).values()] == [each.lost for each in stats.values()]


def test_one_side_cannot_take_the_count_of_the_other(small: Native) -> None:
    """The ring is shared: a flood on one side makes the other lose, and each loss is its own side's."""
    small.send(Side.PRIMARY, FRAMES[Side.PRIMARY], count=FLOOD)
    before = account(small)[Side.PRIMARY]
    deadline = time.monotonic() + 10
    while not account(small)[Side.PEER].lost:  # until the reader's thread has filled its queue
        small.send(Side.PEER, FRAMES[Side.PEER], count=10)
        assert time.monotonic() < deadline
    assert account(small)[Side.PRIMARY] == before


def test_after_a_loss_there_is_room_again(small: Native) -> None:
    for _ in range(5):
        small.send(Side.PEER, FRAMES[Side.PEER], count=1000)
        read_all(small)
        lost = account(small)[Side.PEER].lost
        small.event(FRAMES[Side.PEER])
        assert account(small)[Side.PEER].lost == lost > 0


def test_a_flood_is_counted_while_it_is_read(small: Native) -> None:
    """Reader and floods run at once; whatever is lost, nothing is missing and nothing comes twice."""
    read = 0
    for thread in flood_both(small, 500, rounds=40):
        while thread.is_alive():
            read += small.stream.read(0.001) is not None
            # Counters are read before what is pending, so that a packet under way may be in the latter only.
            assert all(delivered <= seen for seen, delivered, _, _ in small.stream.stats())
    read += len(read_all(small))
    stats = account(small)
    assert [each.seen for each in stats.values()] == [FLOOD, FLOOD]
    assert read == sum(each.delivered for each in stats.values())
    assert all(each.pending == 0 for each in stats.values())


def test_events_come_in_the_order_of_their_packets(native: Native) -> None:
    ports = range(1, 3001)
    for port in ports:
        native.send(Side.PEER, ipv6(6, tcp(src_port=port)))
    events = [native.stream.read(10.0) for _ in ports]
    assert [event and event.src_port for event in events] == list(ports)
    times = [event.timestamp_ns for event in events if event]
    assert times == sorted(times)


def test_several_readers_in_turn_get_each_event_once(native: Native) -> None:
    """One thread at a time may read, whichever; iterators of one stream share its events."""
    count, turn = 3000, threading.Lock()
    before = native.stream.stats()[1]
    for port in range(count):
        native.send(Side.PEER, ipv6(6, tcp(src_port=port)))
    shares: list[list[int | None]] = [[], [], [], []]

    def read_in_turn(share: list[int | None], events: Iterator[PacketEvent] | None) -> None:
        while True:
            with turn:
                event = native.stream.read(0.5) if events is None else next(events, None)
                if event is None:
                    return
                share.append(event.src_port)

    iterators = [None, None, native.stream.events(0.5), native.stream.events(0.5)]
    threads = [threading.Thread(target=read_in_turn, args=each) for each in zip(shares, iterators, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(port for share in shares for port in share if port is not None) == list(range(count))
    after = native.stream.stats()[1]
    assert [now - then for now, then in zip(after, before, strict=True)] == [count, count, 0, 0]


def test_what_is_pending_at_close_stays_pending(small: Native) -> None:
    list(flood_both(small, 1000))
    for _ in range(10):
        assert small.stream.read(10.0) is not None
    before = account(small)
    small.stream.close()
    after = account(small)
    assert after == before
    assert sum(each.delivered for each in after.values()) == 10
    assert sum(each.pending for each in after.values()) > 0
    small.stream.close()
    assert account(small) == after


def test_the_account_is_final_after_close(small: Native) -> None:
    """The programs may outlive the reading; what they still see is nobody's."""
    small.event(FRAMES[Side.PEER])
    small.stream.close()
    small.send(Side.PEER, FRAMES[Side.PEER], count=1000)
    assert account(small) == {Side.PRIMARY: SideStats(0, 0, 0, 0), Side.PEER: SideStats(1, 1, 0, 0)}
    assert small.stream.read(0) is None


def test_pairs_share_one_ring_and_one_account_and_each_event_names_its_pair() -> None:
    names = ("nk0", "nk1", "nk2")
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(closing(load_programs(0, RING)))
        objects = [first, *(stack.enter_context(closing(load_programs(index, RING, first))) for index in (1, 2))]
        reader = stack.enter_context(PacketReader(first.maps["events"], pairs=names, queue_size=QUEUE))
        for index in (2, 0, 1, 1):
            objects[index].programs["monitor_peer"].test_run(FRAMES[Side.PEER])
        events = [reader.read(10.0) for _ in range(4)]
        assert [event and event.pair_name for event in events] == ["nk2", "nk0", "nk1", "nk1"]
        assert reader.stats == ((0, 0, 0, 0), (4, 4, 0, 0))
