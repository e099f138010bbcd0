"""The stream of records: each way of reading it, and records of any length; without a device."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import select
import threading
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from native import RING, Native
from netkit_bpf import Side, _core
from netkit_bpf.events.event import PacketEvent
from packets import ipv6, tcp
from streams import Options, account, send_tcp

FRAME = ipv6(6, tcp())
SEED = int(os.environ.get("NETKIT_BPF_SEED", "0")) or time.time_ns() % 1_000_000


@pytest.fixture
def native(options: Options) -> Iterator[Native]:
    with Native(**options) as made:
        yield made


def reader_threads() -> int:
    names = []
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # ended since it was listed
            names.append((task / "comm").read_text().strip())
    return names.count("netkit-reader")


def await_reader_threads(count: int) -> None:
    """A thread that was joined is listed for a moment more."""
    deadline = time.monotonic() + 10
    while reader_threads() != count:
        assert time.monotonic() < deadline, reader_threads()
        time.sleep(0.001)


# Ways of reading.


def test_every_event_arrives_once_and_in_order(native: Native) -> None:
    ports = range(1, 2001)
    for port in ports:
        send_tcp(native, src_port=port)
    events = list(native.stream.events(0.3))
    assert [event.src_port for event in events] == list(ports)
    assert account(native) == (2000, 2000, 0, 0)


def test_a_full_ring_is_read_whole(native: Native) -> None:
    """Several blocks long."""
    count = RING // _core.RECORD_SIZE - 1
    send_tcp(native, count)
    assert sum(1 for _ in native.stream.events(0.3)) == count
    assert account(native) == (count, count, 0, 0)


def test_a_look_without_time_finds_what_is_there(native: Native) -> None:
    for _ in range(100):
        assert native.stream.read(0) is None
        send_tcp(native)
        assert native.stream.read(0) is not None
    assert native.stream.read(0) is None


def test_a_waiting_reader_gets_an_event_at_once(native: Native) -> None:
    for _ in range(20):
        got: list[PacketEvent | None] = []
        thread = threading.Thread(target=lambda into=got: into.append(native.stream.read(10.0)))
        thread.start()
        send_tcp(native)
        thread.join()
        assert got[0] is not None


def test_streams_share_a_thread_unless_they_are_to_have_their_own() -> None:
    others = reader_threads()  # of other tests' streams
    with Native(thread="shared") as first, Native(thread="shared") as second:
        await_reader_threads(others + 1)
        with Native(thread="own"), Native(thread=None):
            await_reader_threads(others + 2)
        for each in (first, second):
            send_tcp(each)
            assert each.stream.read(10.0) is not None
        first.stream.close()
        await_reader_threads(others + 1)
        send_tcp(second)
        assert second.stream.read(10.0) is not None
    await_reader_threads(others)


def test_a_stream_that_nobody_reads_does_not_hold_up_its_neighbour() -> None:
    with Native(thread="shared", ring_size=4096, queue_size=4096) as idle, Native(thread="shared") as busy:
        send_tcp(idle, 10_000)
        for _ in range(50):
            send_tcp(busy)
            assert busy.stream.read(10.0) is not None
            send_tcp(idle, 10)
        account(idle)
        assert account(busy) == (50, 50, 0, 0)


def test_under_load_the_reader_naps_and_is_not_woken(options: Options) -> None:
    with Native(**options) as native:
        count = 300_000
        flood = threading.Thread(target=send_tcp, args=(native, count))
        flood.start()
        for _ in native.stream.events(0.3):
            pass
        flood.join()
        _, _, naps, wakeups = native.stream.limits()
        assert naps > 2  # on a busy machine the thread comes too late for more
        assert wakeups < count / 1000
        account(native)


def test_what_waits_is_shown_in_bytes() -> None:
    with Native(thread=None) as native:
        send_tcp(native, 100)
        assert native.stream.limits()[:2] == (9600, 0)
        assert native.stream.read(0) is not None
        ring, queue, _, _ = native.stream.limits()
        assert (ring, queue) == (0, 0)  # the rest is in the block at hand
        assert account(native) == (100, 1, 0, 99)
    with Native(ring_size=4096, queue_size=9600) as native:
        send_tcp(native, 1000)
        deadline = time.monotonic() + 10
        while native.stream.limits()[1] < 9600:
            assert time.monotonic() < deadline
            send_tcp(native)
        send_tcp(native, 100)
        ring, queue, _, _ = native.stream.limits()
        assert (ring // _core.RECORD_SIZE in (41, 42), queue) == (True, 9600)


# Descriptors to wait on.


def test_its_descriptor_is_readable_while_events_wait(native: Native) -> None:
    poll = select.epoll()
    poll.register(native.stream.fileno(), select.EPOLLIN)
    for count in (1, 1, 3, 1000):
        assert poll.poll(0) == []
        send_tcp(native, count)
        assert poll.poll(10) != []
        for _ in range(count):
            assert poll.poll(0) != []
            assert native.stream.read(0) is not None
        assert native.stream.read(0) is None
    assert poll.poll(0) == []
    poll.close()


def test_a_closed_stream_has_no_descriptor(native: Native) -> None:
    native.stream.fileno()
    native.stream.close()
    with pytest.raises(ValueError, match="closed"):
        native.stream.fileno()


# Several threads.


def test_threads_that_iterate_one_stream_share_its_events(options: Options) -> None:
    """Nothing is lost and nothing comes twice."""
    per_round, rounds = 500, 40
    with Native(**options) as native:
        shares: list[list[int]] = [[], [], [], []]

        def iterate(share: list[int]) -> None:
            share.extend(event.length for event in native.stream.events(1.0))

        threads = [threading.Thread(target=iterate, args=(share,)) for share in shares]
        for thread in threads:
            thread.start()
        lengths = range(100, 100 + rounds)
        for length in lengths:
            native.send(Side.PEER, FRAME.ljust(length, b"\0"), count=per_round)
        for thread in threads:
            thread.join()
        assert Counter(length for share in shares for length in share) == dict.fromkeys(lengths, per_round)
        assert account(native) == (rounds * per_round, rounds * per_round, 0, 0)


def test_close_ends_eight_threads_that_read_a_flood(options: Options) -> None:
    with Native(ring_size=1 << 16, **options) as native:
        counts: list[int] = []

        def read() -> None:
            counts.append(sum(1 for _ in native.stream.events(None)))

        threads = [threading.Thread(target=read) for _ in range(8)]
        for thread in threads:
            thread.start()
        for _ in range(50):
            send_tcp(native, 1000)
        native.stream.close()
        for thread in threads:
            thread.join(10)
            assert not thread.is_alive()
        seen, delivered, _, _ = account(native)
        assert (seen, delivered) == (50_000, sum(counts))


# Consumers that are slow, or none.


def test_a_slow_consumer_gets_what_was_not_lost(options: Options) -> None:
    with Native(ring_size=1 << 14, queue_size=1 << 14, **options) as native:

        def flooding() -> None:
            for _ in range(100):
                send_tcp(native, 1000)

        flood = threading.Thread(target=flooding)
        flood.start()
        read = 0
        for _ in native.stream.events(1.0):
            read += 1
            if flood.is_alive():
                time.sleep(0.0001)
        flood.join()
        seen, delivered, lost, pending = account(native)
        assert (seen, delivered, pending) == (100_000, read, 0)
        assert lost > 0


def test_a_consumer_that_never_reads_costs_no_more_than_ring_and_queue(options: Options) -> None:
    with Native(ring_size=1 << 16, queue_size=1 << 20, **options) as native:
        before = resident()
        for _ in range(21):
            send_tcp(native, 50_000)
        assert resident() - before < 1 << 21  # the queue, and what is next to nothing
        seen, delivered, lost, _ = account(native)
        assert (seen, delivered) == (1_050_000, 0)
        assert lost > 1_000_000


def resident() -> int:
    """Bytes of memory that this process has of its own."""
    fields = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["RssAnon"].split()[0]) << 10


def test_the_largest_ring_is_read_or_refused_with_the_reason() -> None:
    try:
        native = Native(ring_size=1 << 30, thread=None)
    except OSError as error:
        assert error.errno == errno.ENOMEM  # noqa: PT017 - either is right
        assert "it is too large: take a smaller max_entries" in str(error)  # noqa: PT017
        return
    with native:
        send_tcp(native, 100_000)
        assert sum(1 for _ in native.stream.events(0)) == 100_000


def test_an_event_that_is_kept_holds_no_block(native: Native) -> None:
    kept = []
    gc.collect()
    before = resident()
    for _ in range(200):
        send_tcp(native, 6000)
        events = [native.stream.read(10.0) for _ in range(6000)]
        kept.append(events[-1])
        del events
    assert len(set(kept)) == 200
    assert resident() - before < 8 << 20  # the blocks they came in are 96 MB


def test_loss_is_told_once(options: Options) -> None:
    with Native(ring_size=4096, queue_size=4096, loss_advice="events are lost: do this", **options) as native:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            for _ in range(5):
                send_tcp(native, 1000)
                for _ in native.stream.events(0.25):
                    pass
        assert [(each.category, str(each.message)) for each in told] == [(RuntimeWarning, "events are lost: do this")]
        assert told[0].filename == __file__


def test_no_event_is_lost_where_a_warning_is_an_error(options: Options) -> None:
    with Native(ring_size=4096, queue_size=4096, loss_advice="events are lost", **options) as native:
        send_tcp(native, 1000)
        assert native.stream.read(0) is not None
        with pytest.raises(RuntimeWarning, match="events are lost"):
            for _ in native.stream.events(0.5):
                pass
        for _ in native.stream.events(0.5):
            pass
        assert account(native)[3] == 0


def test_without_loss_nothing_is_told(options: Options) -> None:
    with Native(loss_advice="events are lost", **options) as native:
        for _ in range(3):
            send_tcp(native, 1000)
            assert sum(1 for _ in native.stream.events(0.25)) == 1000
