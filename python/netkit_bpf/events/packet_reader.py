# SPDX-License-Identifier: MIT
"""Packet events of programs that write them as this package does: bpf/include/netkit_bpf/event.h."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, BinaryIO, ClassVar

from netkit_bpf._core import PAIR_OFFSET, RECORD_SIZE, SIDE_OFFSET
from netkit_bpf._core import EventBatch as CoreEventBatch
from netkit_bpf.bpf.map import Map
from netkit_bpf.enums import Side
from netkit_bpf.events.batch import ANY_NUMBER, PACKET_HEADER, BatchReader, EventBatch, packet_row
from netkit_bpf.events.event import PacketEvent
from netkit_bpf.events.limits import Limits
from netkit_bpf.events.observed_pairs import ObservedPairs
from netkit_bpf.events.pair_names import AnyOrigin, PairNames
from netkit_bpf.events.reader import RecordReader, check_observers, check_ring, counts_fit, counts_of
from netkit_bpf.events.stats import MonitorStats, ReadingStats, SideStats
from netkit_bpf.internal.arguments import (
    Rings,
    StreamOptions,
    Thread,
    expect,
    expect_in,
    expect_interval,
    expect_timeout,
)
from netkit_bpf.observer.filter import FilteredCounts
from netkit_bpf.observer.observer import Observer

if TYPE_CHECKING:
    from netkit_bpf.events.capture import Counts, Interface
    from netkit_bpf.events.pair_changes import PairChanges

_SHOWN = 8


class PacketReader(RecordReader[PacketEvent]):
    """Reads the packet events that your programs put into a ring buffer, one by one, in batches or into a file.

    Its records are `struct nk_event` of `#include <netkit_bpf/event.h>`, which ships with this package, each followed
    by the first bytes of its packet if there is a snaplen. The programs count the packets that they see and those that
    find no room, in a per-CPU array with a `struct nk_counts` for each side. The array is called `counts`, or has the
    name of the map with `_counts` appended.

    `Monitor` is a PacketReader with its own programs. Any thread may read, close it and ask for its stats; each event
    goes to one reader. Signal handlers run while a read waits. Iterating, with `for` and with `async for`, waits for
    ever; `events` takes limits. A forked child can neither use it nor harm it.

    Args:
        map: a map of type ringbuf, of a loaded object; or several, one for each CPU. The counts of the first map are
            those of all.
        rings: with "shared" and "percpu" the events of each ring come in order, and those of several rings one block
            after the other; with "ordered" all events come in the order of their times. For that, each ring must be
            filled by one CPU, and the program must read the time after the record has its place: see `nk_stamp` in
            bpf/monitor.bpf.c.
        observers: the observers whose programs write into it, in the order of `nk_event.pair`. The reader lets them
            check when something changes; once all their pairs are gone, reading ends. They are not closed with it.
        pairs: the names of the pairs, by `nk_event.pair`; None takes the names from the observers.
        by_pair: whether pairs come and go while it reads, by `add_pair` and `remove_pair`, each with counts of its own,
            by `add_counts`. There are none at first.
        endless: with `by_pair`: whether reading goes on once the last pair is gone.
        snaplen: how many bytes of each packet follow its event; with 0 the events have no data.
        name: the name of the reader in errors.
        queue_size: bytes of events that may wait for Python behind the ring.
        thread: the thread that empties the ring while Python does something else: "shared" is the one that all readers
            share, "own" is a separate one. With None events stay in the ring until they are read.

    Attributes:
        RECORD_SIZE: bytes that an event takes in the ring, without data.

    Raises:
        ValueError: the map is closed, not loaded, or has a reader or no counts; an observer is closed.
        TypeError: a map is not a ring buffer.

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
        by_pair: bool = False,
        endless: bool = False,
        snaplen: int = 0,
        name: str = "packet reader",
        queue_size: int = StreamOptions().queue_size,
        thread: Thread | None = "shared",
    ) -> None:
        maps = [map] if isinstance(map, Map) else expect(map, Sequence, "map")  # type: ignore[type-abstract]
        for ring in maps:
            check_ring(ring, "PacketReader")
        if not maps or len({id(ring) for ring in maps}) < len(maps):
            raise ValueError("map must be a ring buffer, or several different ones")
        options = StreamOptions(queue_size, rings, thread).check()
        check_observers(observers)
        if by_pair and observers:
            raise ValueError("observers of pairs that come and go are given to add_pair()")
        self._pairs = ObservedPairs() if expect(by_pair, bool, "by_pair") else None
        self._first_names = _names_of(observers, pairs) if self._pairs is None else tuple(pairs or ())
        self._snaplen = expect_in(snaplen, range(1 << 31), "snaplen")
        self._ring_size, self._queue_size = sum(ring.max_entries for ring in maps), queue_size
        self._start_ns = min((each.start_ns for each in observers), default=time.time_ns())
        maps[0]._open()
        if not by_pair and counts_of(maps[0], len(Side)) is None:
            raise ValueError(
                f"map '{maps[0].name}' has no counts: define a per-CPU array with a struct nk_counts for each side"
            )
        super().__init__(
            maps,
            () if by_pair else self._first_names,
            options,
            observers,
            called=f"the {expect(name, str, 'name')}",
            sources=len(Side),
            source_offset=SIDE_OFFSET,
            pair_offset=PAIR_OFFSET if by_pair else None,
            endless=expect(endless, bool, "endless"),
            loss_advice=_loss_advice(name, self._first_names, maps[0].max_entries),
        )
        if self._pairs is not None:
            self._pairs.stream = self._stream

    def read_batch(self, max_events: int = 65536, timeout: float | None = None) -> EventBatch:
        """Return the events that wait, at most `max_events` of them, in one piece of memory.

        Waits for the first event; the batch is empty, and so false, after `timeout` seconds without one, or if the
        reader is closed meanwhile. It ends before a record that is not a packet event; the next call raises the error.
        Raises what `events` raises. A timeout of 0 does not wait.

        >>> while batch := monitor.read_batch(timeout=1.0):  # doctest: +SKIP
        ...     print(numpy.asarray(batch)["length"].sum())
        """
        if expect(max_events, int, "max_events") < 1:
            raise ValueError(f"max_events must be at least 1, not {max_events}")
        self._check_open()
        most, with_data = min(max_events, ANY_NUMBER), self._snaplen > 0
        rows = CoreEventBatch.read(self._stream, most, expect_timeout(timeout), merge=True, with_data=with_data)
        return EventBatch._of(rows)

    def batches(
        self, timeout: float | None = None, duration: float | None = None, count: int | None = None
    ) -> BatchReader:
        """Iterate over the events in batches as they come: one event if it is quiet, thousands under load; no copy.

        Works with `for` and `async for`, and has the limits and errors of `events`. `count` counts events, not batches.

        >>> async for batch in monitor.batches(duration=10.0):  # doctest: +SKIP
        ...     print(numpy.asarray(batch)["length"].sum())
        """
        self._check_open()
        return BatchReader(self._stream, Limits.of(timeout, duration, count), with_data=self._snaplen > 0)

    def live(self, duration: float | None = None, *, interval: float = 0.5) -> None:
        """Show in a notebook what comes, as it comes: packets a second of each side, the counts, the newest packets.

        It takes the events, as any reader does. The last picture stays in the notebook. Interrupting the kernel ends
        it, and is not an error.

        Args:
            duration: seconds after which it ends; None goes on until it is interrupted or closed.
            interval: seconds between two drawings.

        Raises:
            ImportError: IPython is not installed.
            ValueError: it is closed.
            OSError: what `events` raises.

        >>> monitor.live(10)  # doctest: +SKIP
        """
        from netkit_bpf.internal.html import first
        from netkit_bpf.internal.live.view import LiveView, waits

        self._check_open()
        view = LiveView(repr(self)[1:-1], "packets/s")
        newest: list[PacketEvent] = []
        start_ns = time.time_ns()

        def draw() -> None:
            stats = self.stats
            rows = [packet_row(event, start_ns) for event in newest]
            counts = {"primary": stats.primary.seen, "peer": stats.peer.seen}
            view.update(counts, [*stats._tables(), first(rows, PACKET_HEADER, "the newest packets")])

        with contextlib.suppress(KeyboardInterrupt), view:
            draw()
            for seconds in waits(expect_timeout(duration, "duration"), expect_interval(interval)):
                try:
                    for batch in self.batches(duration=seconds):
                        newest[:] = [*newest, *batch[-_SHOWN:]][-_SHOWN:]
                finally:
                    draw()
                if self.closed:
                    break

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
        it is closed. Available packets are written at once, and the file ends with a whole packet at any time.

        Each watched side is an interface, also of pairs that are added meanwhile, named after the sending device, so
        that all packets are outbound. The file has times in nanoseconds, the filter, and, for a single pair, how many
        packets were lost: about where, and in all since the beginning. A packet can be larger than the MTU, because it
        is captured before segmentation (GSO); its checksum may not be filled in.

        Args:
            target: a path, which is created or emptied, or a binary file, which is left open.
            count: packets, 1 or more.
            timeout: seconds.
            duration: seconds.

        Raises:
            ValueError: it is closed, or has no snaplen and so no data.
            BrokenPipeError: the reader of the pipe is gone.
            OSError: the file cannot be written, or what `events` raises; the packets before that are in the file.

        >>> with Monitor(pair, snaplen=65535, filter="icmp6") as monitor:  # doctest: +SKIP
        ...     monitor.capture("ping.pcapng", timeout=5.0)

        Source: https://datatracker.ietf.org/doc/draft-ietf-opsawg-pcapng/
        """
        self._check_open()
        if not self._snaplen:
            raise ValueError(f"{self._called} keeps no packet data: make it with a snaplen, 262144 for whole packets")
        if count is not None:
            expect_in(count, range(1, 1 << 62), "count")
        names, interfaces = self._interfaces()
        one_pair = {each.pair for each in interfaces} == {0}
        counts = (lambda: self._counts(interfaces)) if one_pair else None
        filters = [each.filter for each in self.observers]
        expression = filters[0].expression if filters and filters[0] and len(set(filters)) == 1 else ""
        from netkit_bpf.events.capture import Capture

        made = Capture(
            self._stream, interfaces, expression, self._snaplen, self._start_ns, counts, self._interfaces, names
        )
        return made.write(target, count, expect_timeout(timeout), expect_timeout(duration, "duration"))

    def add_counts(self, counts: Map, pairs: int) -> None:
        """Count so many further pairs by this per-CPU array, which has a struct nk_counts for each side of each.

        Raises:
            ValueError: it is closed, or its pairs do not come and go; the map is another one, or too small.
        """
        self._check_open()
        expect_in(pairs, range(1, (1 << 16) + 1), "pairs")
        if not counts_fit(expect(counts, Map, "counts"), len(Side) * pairs):
            raise ValueError(
                f"map '{counts.name}' is not a per-CPU array with a struct nk_counts for each side of {pairs} pairs"
            )
        self._come_and_go().stream.add_counts(counts._fileno(), pairs)

    def add_pair(self, name: str, sides: Sequence[Side] = tuple(Side), *, netns_cookie: int | None = None) -> int:
        """Announce a further pair, before its programs are attached; returns the number that its events have.

        It is that of a pair that has ended, if all events of that one were handed out; its counts begin anew.

        Args:
            name: of its primary.
            sides: that its programs watch.
            netns_cookie: `NetNS.cookie` of the primary's namespace, which tells it from others of that name in exports.

        Raises:
            ValueError: it is closed, or its pairs do not come and go.
            OSError: ENOSPC, 65536 pairs are watched, or have ended with events that were not read.
        """
        self._check_open()
        return self._come_and_go().add(expect(name, str, "name"), tuple(sides), netns_cookie)

    def start_pair(self, number: int, observer: Observer) -> None:
        """Look after the observer of a pair that was added, until it is removed or its pair is deleted.

        Raises:
            ValueError: it is closed, or its pairs do not come and go; there is no such pair, or it was started before.
            OSError: ENODEV, the pair is gone.
        """
        self._check_open()
        self._come_and_go().start(number, expect(observer, Observer, "observer"))

    def remove_pair(self, number: int) -> None:
        """Close the observer of a pair. Its events until then are delivered, and its counts stay.

        Raises:
            ValueError: its pairs do not come and go; there is no such pair.
        """
        self._check_process()
        self._come_and_go().remove(number)

    def give_up_pair(self, number: int) -> None:
        """Take back the announcement of a pair that was not started, if its programs could not be attached.

        Raises:
            ValueError: its pairs do not come and go; there is no such pair.
        """
        self._check_process()
        self._come_and_go().give_up(number)

    def changes(self) -> PairChanges:
        """A stream of the pairs that are watched from now on, or no longer: `PairChange`s.

        It begins with an "added" for each pair that is watched already, so that nobody misses one. It has its own
        changes, takes no events and costs nothing unless it is made. An end is told within milliseconds; with
        `thread=None` while somebody reads events.

        Raises:
            ValueError: it is closed, or its pairs do not come and go.

        >>> with Monitor.all() as monitor, monitor.changes() as changes:  # doctest: +SKIP
        ...     for change in changes.events(duration=60.0):
        ...         print(change)
        nk0 added
        nk0 deleted: seen=12 lost=0
        """
        self._check_open()
        return self._come_and_go().changes()

    def program_ids(self) -> dict[int, tuple[int, ...]]:
        """The ids of the programs on the hooks of each pair that is watched, by its number."""
        self._check_open()
        return self._come_and_go().program_ids()

    def _come_and_go(self) -> ObservedPairs:
        if self._pairs is None:
            raise ValueError("its pairs do not come and go: make it with by_pair=True")
        return self._pairs

    @property
    def origins(self) -> tuple[tuple[str, int | None], ...]:
        """The name and the primary's `NetNS.cookie` of the pair that has each number, or had it last."""
        if self._pairs is not None:
            self._check_process()
            return self._pairs.origins()
        cookies: list[int | None] = [each.netns_cookie for each in self._observers]
        return tuple(zip(self._names, cookies or [None] * len(self._names), strict=True))

    def cookies_of(self, names: tuple[str, ...]) -> list[int | None] | None:
        """The `NetNS.cookie` of each of `EventBatch.pair_names`; None if the batch is of another reader.

        A batch knows them itself, if pairs come and go; one that was concatenated or unpickled does not.
        """
        if isinstance(names, PairNames):
            is_own = self._pairs is not None and self._pairs.reader is names.reader
            return list(names.cookies) if is_own else None
        origins = self.origins[: len(names)]
        is_own = names == tuple(name for name, _ in origins) and bool(origins) == bool(self.origins)
        return [cookie for _, cookie in origins] if is_own else None

    def sums(self) -> dict[tuple[AnyOrigin, Side], SideStats]:
        """The counts of each side by the pair's name and the primary's `NetNS.cookie`, as accounts of exports are.

        Both are None if the counts are of several pairs together.
        """
        self._check_process()
        if self._pairs is not None and (sums := self._pairs.sums()):
            return sums
        stats, origins = self.stats, self.origins
        origin: AnyOrigin = origins[0] if len(origins) == 1 else (None, None)
        return {(origin, side): getattr(stats, side) for side in Side}

    @property
    def observers(self) -> tuple[Observer, ...]:
        """The observers of the pairs that are watched now."""
        if self._pairs is None:
            return super().observers
        self._check_process()
        return self._pairs.observers

    @property
    def stats(self) -> MonitorStats:
        """The counts so far; after `close`, the final ones."""
        self._check_process()
        if self._pairs is not None:
            return self._pairs.stats(self._reading)
        (primary, peer), _, limits = self._stream.account()
        return MonitorStats(SideStats(*primary), SideStats(*peer), self._reading(*limits))

    def _reading(self, ring: int, queue: int, naps: int, wakeups: int) -> ReadingStats:
        return ReadingStats(ring, self._ring_size, queue, self._queue_size, naps, wakeups)

    def _repr_html_(self) -> str | None:
        from netkit_bpf.internal.html import show

        return show(self, lambda: self.stats._tables())

    @property
    def filtered(self) -> FilteredCounts:
        """How many packets did not match the filter; `stats` does not count them. After `close`, the final counts."""
        self._check_process()
        if self._pairs is not None:
            return self._pairs.filtered
        counts = [each.filtered for each in self._observers]
        return FilteredCounts(sum(each.primary for each in counts), sum(each.peer for each in counts))

    @property
    def _names(self) -> tuple[str, ...]:
        return self._first_names if self._pairs is None else self._pairs.names

    def close(self) -> None:
        """Stop reading and wake all waiting readers. Idempotent.

        Unread records are dropped; the final `stats` count them as pending. The observers of pairs that come and go are
        closed, others not; the map stays as it is.
        """
        if self._pairs is None or os.getpid() != self._process:
            super().close()
            return
        self._pairs.close()
        super().close()
        self._pairs.end_changes()

    def _of(self) -> str:
        return _listed(self._names) or "(no pairs)"  # Monitor.all, before they come

    def __repr__(self) -> str:
        if os.getpid() != self._process:  # where a thread that is not there may hold the locks
            return f"<{type(self).__name__} of another process>"
        watched = ""
        observers = self.observers
        if observers:
            first = observers[0]  # all observers of a monitor are alike
            watched = f" ({', '.join(first.sides)})" + (f" filter={first.filter.expression!r}" if first.filter else "")
        if self.closed:
            return f"<{type(self).__name__} {self._of()}{watched} closed>"
        return f"<{type(self).__name__} {self._of()}{watched} open{_behind(observers)}>"

    def _interfaces(self) -> tuple[tuple[str, ...], list[Interface]]:
        """The stream's names of the pairs, and one interface for each watched side, named after the sending device."""
        from netkit_bpf.events.capture import interfaces_of

        if self._pairs is not None:
            names, peers, numbers = self._pairs.senders()
            return names, interfaces_of(names, peers, numbers)
        sides = [each.sides for each in self._observers] or [tuple(Side)] * len(self._names)
        peers = [each._peer_name() for each in self._observers] or [None] * len(self._names)
        numbers = [[side.number for side in watched] for watched in sides]
        return self._stream.names, interfaces_of(self._names, peers, numbers)

    def _counts(self, interfaces: Sequence[Interface]) -> list[Counts]:
        """What became of the packets of each watched side."""
        from netkit_bpf.events.capture import Counts

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
            raise ValueError(f"there are {len(observers)} observers but {len(names)} names of pairs")
    if not names:
        raise ValueError("a packet event names its pair: give the observers, or the names of the pairs")
    return names


def _behind(observers: Sequence[Observer]) -> str:
    """The programs that may keep packets from the first observers; each takes some requests to the kernel."""
    found = []
    for each in observers[:_SHOWN]:
        with contextlib.suppress(OSError, ValueError):  # its pair is gone, or it is being closed
            for side, programs in each.predecessors.items():
                found += [f"{program.name or program.id} on {each.device} ({side})" for program in programs]
    return f" behind {', '.join(found)}" if found else ""


def _listed(names: Sequence[str]) -> str:
    most = 4
    return ", ".join(names) if len(names) <= most else f"{', '.join(names[:most])} and {len(names) - most} more"


def _loss_advice(name: str, pairs: Sequence[str], ring_size: int) -> str:
    of = f" of {_listed(pairs)}" if pairs else ""  # which come later, if there are none yet
    return (
        f"the {name}{of} loses packets: they come faster than they are read, and its ring of "
        f"{ring_size} bytes is full. Take a larger ring_size, leave packets out by filter, read in batches, or do "
        f"less for each event; stats counts what is lost. This warning is given once"
    )
