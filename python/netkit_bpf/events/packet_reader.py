# SPDX-License-Identifier: MIT
"""Packet events of programs that write them as this package does: bpf/include/netkit_bpf/event.h."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import BinaryIO, ClassVar

from netkit_bpf._core import RECORD_SIZE, SIDE_OFFSET
from netkit_bpf.bpf.map import Map
from netkit_bpf.enums import Side
from netkit_bpf.events.batch import ANY_NUMBER, BatchReader, EventBatch
from netkit_bpf.events.capture import Capture, Counts, Interface, interfaces_of
from netkit_bpf.events.event import PacketEvent
from netkit_bpf.events.limits import Limits
from netkit_bpf.events.reader import RecordReader, check_observers, check_ring, counts_of
from netkit_bpf.events.stats import MonitorStats, ReadingStats, SideStats
from netkit_bpf.internal.arguments import Rings, StreamOptions, Thread, expect, expect_in, expect_timeout
from netkit_bpf.observer.filter import FilteredCounts
from netkit_bpf.observer.observer import Observer

_SIDES = tuple(Side)  # by number: enum nk_side, bpf/include/netkit_bpf/event.h


class PacketReader(RecordReader[PacketEvent]):
    """The packet events that programs of yours put into a ring buffer, one by one, in batches or in a file.

    Its records are `struct nk_event` of `#include <netkit_bpf/event.h>`, which ships with this package, each with the
    first bytes of its packet behind it if there is a snaplen. The programs count what they see and what finds no room
    in a per-CPU array called `counts`, or as the map with `_counts` behind it, with a `struct nk_counts` for each side.

    `Monitor` is one, with programs of its own. Any thread may read, close it and ask for its stats; each event goes to
    one reader. Signal handlers run while a read waits. Iterating, with `for` and with `async for`, waits for ever;
    `events` takes limits. A forked child can neither use it nor harm it.

    Args:
        map: a map of type ringbuf, of an object that is loaded; or several, of which each CPU fills its own. The counts
            of the first are those of all.
        rings: with "shared" and "percpu" the events of each ring come in order, those of several one block after the
            other; with "ordered" all come in the order of their times. That needs rings that one CPU each fills, and
            times that the program reads once a record has its place: `nk_stamp` of bpf/monitor.bpf.c tells.
        observers: those whose programs write into it, in the order of `nk_event.pair`. The reader checks them five
            times a second; once a pair is gone the reading ends. They are not closed with it.
        pairs: the names of the pairs by `nk_event.pair`; None takes those of the observers.
        snaplen: how many bytes of each packet lie behind its event; with 0 the events have no data.
        name: what the reader is called in errors.
        queue_size: bytes of events that may wait for Python behind the ring.
        thread: "shared" is the thread that all readers share, "own" one of this reader alone: it empties the ring while
            Python does something else. With None events stay in the ring until they are read.

    Attributes:
        RECORD_SIZE: bytes of the ring that an event takes, without data.

    Raises:
        ValueError: the map is closed, not loaded, read already, or comes without counts; an observer is closed.
        TypeError: a map is no ring buffer.

    >>> observer = Observer(pair, {"peer": obj.programs["watch"]}, verdict=obj.variables["verdict"])  # doctest: +SKIP
    >>> with PacketReader(obj.maps["events"], observers=[observer]) as reader:  # doctest: +SKIP
    ...     for event in reader.events(timeout=1.0):
    ...         print(event)
    """

    RECORD_SIZE: ClassVar[int] = RECORD_SIZE

    def __init__(
        self,
        map: Map | Sequence[Map],  # noqa: A002 - as everywhere else
        *,
        rings: Rings = "shared",
        observers: Sequence[Observer] = (),
        pairs: Sequence[str] | None = None,
        snaplen: int = 0,
        name: str = "packet reader",
        queue_size: int = StreamOptions().queue_size,
        thread: Thread | None = "shared",
    ) -> None:
        maps = [map] if isinstance(map, Map) else expect(map, Sequence, "map")  # type: ignore[type-abstract]
        for ring in maps:
            check_ring(ring, "PacketReader")
        if not maps or len({id(ring) for ring in maps}) < len(maps):
            raise ValueError("map must be a ring buffer, or several of which each is named once")
        options = StreamOptions(queue_size, rings, thread).check()
        check_observers(observers)
        self._names = _names_of(observers, pairs)
        self._snaplen = expect_in(snaplen, range(1 << 31), "snaplen")
        self._ring_size, self._queue_size = sum(ring.max_entries for ring in maps), queue_size
        self._start_ns = min((each.start_ns for each in observers), default=time.time_ns())
        maps[0]._open()
        if counts_of(maps[0], len(_SIDES)) is None:
            raise ValueError(
                f"map '{maps[0].name}' comes without counts: a per-CPU array with a struct nk_counts a side"
            )
        super().__init__(
            maps,
            self._names,
            options,
            observers,
            called=f"the {expect(name, str, 'name')}",
            sources=len(_SIDES),
            source_offset=SIDE_OFFSET,
            loss_advice=_loss_advice(name, self._names, maps[0].max_entries),
        )

    def read_batch(self, max_events: int = 65536, timeout: float | None = None) -> EventBatch:
        """Return the events that wait, at most `max_events` of them, in one piece of memory.

        Waits for the first event; the batch is empty, and so false, after `timeout` seconds without one, or when it
        is closed meanwhile. It ends before a record that is no packet event, which is an error for the next call.
        Raises what `events` raises. A timeout of 0 only looks.

        >>> while batch := monitor.read_batch(timeout=1.0):  # doctest: +SKIP
        ...     print(numpy.asarray(batch)["length"].sum())
        """
        if expect(max_events, int, "max_events") < 1:
            raise ValueError(f"max_events must be at least 1, not {max_events}")
        self._check_open()
        most, with_data = min(max_events, ANY_NUMBER), self._snaplen > 0
        return EventBatch._of(self._stream.read_batch(most, expect_timeout(timeout), merge=True, with_data=with_data))

    def batches(
        self, timeout: float | None = None, duration: float | None = None, count: int | None = None
    ) -> BatchReader:
        """Iterate over the events in batches as they come: one event when it is quiet, thousands under load, no copy.

        Takes `for` and `async for`, has the limits of `events`, and raises what that raises. `count` is of events, not
        of batches.

        >>> async for batch in monitor.batches(duration=10.0):  # doctest: +SKIP
        ...     print(numpy.asarray(batch)["length"].sum())
        """
        self._check_open()
        return BatchReader(self._stream, Limits.of(timeout, duration, count), with_data=self._snaplen > 0)

    def capture(
        self,
        target: str | os.PathLike[str] | BinaryIO,
        *,
        count: int | None = None,
        timeout: float | None = None,
        duration: float | None = None,
    ) -> int:
        """Write the packets to a pcapng file, which Wireshark and tcpdump open; returns how many it wrote.

        It ends after `count` packets, after `timeout` seconds without one, `duration` seconds after it began, or when
        it is closed. What is there is written at once, and the file ends with a whole packet at any time.

        Each side that is watched is an interface, named after the device that sends, so that all packets are
        outbound. The file has their times in nanoseconds, the filter, and, of one pair, how many packets
        were lost: about where, and in all since the beginning. A packet can be larger than the MTU: it is
        captured before it is cut into segments (GSO), and its checksum may not be filled in.

        Args:
            target: a path, which is created or emptied, or a binary file, which is left open.
            count: packets, 1 or more.
            timeout: seconds.
            duration: seconds.

        Raises:
            ValueError: it is closed, or has no snaplen and so no data.
            BrokenPipeError: nobody reads the pipe any more.
            OSError: the file cannot be written, or what `events` raises; the packets before that are in the file.

        >>> with Monitor(pair, snaplen=65535, filter="icmp6") as monitor:  # doctest: +SKIP
        ...     monitor.capture("ping.pcapng", timeout=5.0)

        Source: https://datatracker.ietf.org/doc/draft-ietf-opsawg-pcapng/
        """
        self._check_open()
        if not self._snaplen:
            raise ValueError(f"{self._called} keeps no data of packets: make it with a snaplen, snaplen=262144 for all")
        if count is not None:
            expect_in(count, range(1, 1 << 62), "count")
        interfaces = self._interfaces()
        one_pair = {each.pair for each in interfaces} == {0}
        counts = (lambda: self._counts(interfaces)) if one_pair else None
        filters = [each.filter for each in self._observers]
        expression = filters[0].expression if filters and filters[0] and len(set(filters)) == 1 else ""
        made = Capture(self._stream, interfaces, expression, self._snaplen, self._start_ns, counts)
        return made.write(target, count, expect_timeout(timeout), expect_timeout(duration, "duration"))

    @property
    def stats(self) -> MonitorStats:
        """The account up to now; after `close`, the final one."""
        self._check_process()
        (primary, peer), (ring, queue, naps, wakeups) = self._stream.stats(), self._stream.limits()
        reading = ReadingStats(ring, self._ring_size, queue, self._queue_size, naps, wakeups)
        return MonitorStats(SideStats(*primary), SideStats(*peer), reading)

    @property
    def filtered(self) -> FilteredCounts:
        """How many packets did not match the filter; `stats` does not see them. After `close`, the final counts."""
        self._check_process()
        counts = [each.filtered for each in self._observers]
        return FilteredCounts(sum(each.primary for each in counts), sum(each.peer for each in counts))

    def _of(self) -> str:
        return ", ".join(self._names)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {', '.join(self._names)} {'closed' if self.closed else 'open'}>"

    def _interfaces(self) -> list[Interface]:
        """A side of a pair each, named after the device that sends."""
        sides = [each.sides for each in self._observers] or [_SIDES] * len(self._names)
        peers = [each._peer_name() for each in self._observers] or [None] * len(self._names)
        numbers = [[_SIDES.index(side) for side in watched] for watched in sides]
        return interfaces_of(self._names, peers, numbers)

    def _counts(self, interfaces: Sequence[Interface]) -> list[Counts]:
        """What became of the packets of each side that is watched."""
        stats, filtered = self.stats, self.filtered
        return [Counts(stats[each.side].seen, stats[each.side].lost, filtered[each.side]) for each in interfaces]


def _names_of(observers: Sequence[Observer], pairs: Sequence[str] | None) -> tuple[str, ...]:
    """The names of the pairs, by number."""
    if pairs is None:
        names = tuple(each.device for each in observers)
    elif isinstance(pairs, str):
        raise TypeError("pairs must be a sequence of names, not a str")
    else:
        names = tuple(expect(each, str, "each of pairs") for each in pairs)
        if observers and len(names) != len(observers):
            raise ValueError(f"there are {len(observers)} observers and the names of {len(names)} pairs")
    if not names:
        raise ValueError("a packet event is of a pair: give the observers, or the names of the pairs")
    return names


def _loss_advice(name: str, pairs: Sequence[str], ring_size: int) -> str:
    return (
        f"the {name} of {', '.join(pairs)} loses packets: they come faster than they are read, and its ring of "
        f"{ring_size} bytes is full. Take a larger ring_size, leave packets out by filter, read in batches, or do "
        f"less for each event; stats counts what is lost. This is said once"
    )
