# SPDX-License-Identifier: MIT
"""The counts of a monitor."""

from __future__ import annotations

from typing import Literal, NamedTuple

from netkit_bpf.bpf.attached import AttachedProgram
from netkit_bpf.enums import Side

End = Literal["deleted", "removed"]


class SideStats(NamedTuple):
    """What became of the packets of one side. While there is no traffic, `seen == delivered + lost + pending`.

    Attributes:
        seen: packets that reached the hook and match the filter, if there is one.
        delivered: events handed out.
        lost: packets that found the ring full; they went on, unrecorded.
        pending: events that wait to be read.
    """

    seen: int
    delivered: int
    lost: int
    pending: int

    def __str__(self) -> str:
        return " ".join(f"{name}={value}" for name, value in self._asdict().items())


def sum_of(*counts: SideStats) -> SideStats:
    """The counts of several together."""
    return SideStats(*map(sum, zip(*counts, strict=True)))


class HidingProgram(NamedTuple):
    """A program that somebody put in front of a monitor, and the packets that went by unseen.

    Attributes:
        side: on whose hook.
        program: which.
        packets: how many the devices counted between two looks at the hook, while the monitor saw none.
    """

    side: Side
    program: AttachedProgram
    packets: int

    def __str__(self) -> str:
        return f"{self.packets} hidden by {self.program.name or self.program.id} ({self.side})"


class PairStats(NamedTuple):
    """What became of the packets of one pair of a monitor, and when they were watched.

    Attributes:
        name: the name of the pair's primary when it was attached to.
        primary: the counts of the primary's side.
        peer: the counts of the peer's side.
        start_ns: from when on every packet was seen: Unix time in nanoseconds.
        end_ns: when watching ended; None while it goes on.
        end: why it ended: "deleted", the pair was; "removed", by `Monitor.remove`; None while it goes on.
        netns_cookie: `NetNS.cookie` of the namespace that the primary was in then; None if it is unknown.
        hidden_by: the programs in front behind which nothing was seen when the hooks were last looked at, for which
            `Monitor` has the conditions.
    """

    name: str
    primary: SideStats
    peer: SideStats
    start_ns: int
    end_ns: int | None
    end: End | None
    netns_cookie: int | None = None
    hidden_by: tuple[HidingProgram, ...] = ()

    def __str__(self) -> str:
        rest = [*([self.end] if self.end else []), *map(str, self.hidden_by)]
        return " | ".join([f"{self.name}: primary: {self.primary}", f"peer: {self.peer}", *rest])


class ReadingStats(NamedTuple):
    """How near the reading is to its limits. Packets are lost while the ring is full.

    Attributes:
        ring_fill: bytes that wait in the ring.
        ring_size: bytes that fit.
        queue_fill: bytes that wait in the queue behind the ring, which is drained into it until it is full.
        queue_size: bytes that fit.
        naps: how often the reader slept for a short time instead of until a packet wakes it, because events kept
            coming. Naps and wakeups of the shared thread count for all monitors.
        wakeups: how often a packet woke the reader, which costs that packet some microseconds.
    """

    ring_fill: int
    ring_size: int
    queue_fill: int
    queue_size: int
    naps: int
    wakeups: int

    def __str__(self) -> str:
        ring, queue = f"{self.ring_fill}/{self.ring_size}", f"{self.queue_fill}/{self.queue_size}"
        return f"ring={ring} queue={queue} naps={self.naps} wakeups={self.wakeups}"


class _Sides(NamedTuple):
    primary: SideStats
    peer: SideStats


class MonitorStats(_Sides):
    """The counts of a monitor: a pair of `SideStats`, and the state of its reading.

    Attributes:
        primary: the counts of the primary's side.
        peer: the counts of the peer's side.
        reading: how near the reading is to its limits.
        pairs: the counts of each pair that is watched, and of 4096 and more that ended last, in the order in which they
            were added. Empty for a `PacketReader` of your own programs, whose counts are of all pairs.
        older: the counts of both sides of those that ended before, in which their accounts are lost; with those in
            `pairs` they add up to the counts of the sides.
    """

    reading: ReadingStats
    pairs: tuple[PairStats, ...]
    older: tuple[SideStats, SideStats]

    def __new__(
        cls,
        primary: SideStats,
        peer: SideStats,
        reading: ReadingStats | None = None,
        pairs: tuple[PairStats, ...] = (),
        older: tuple[SideStats, SideStats] = (SideStats(0, 0, 0, 0), SideStats(0, 0, 0, 0)),
    ) -> MonitorStats:
        """Make one; without `reading` it has no limits."""
        stats = super().__new__(cls, primary, peer)
        stats.reading = reading or ReadingStats(0, 0, 0, 0, 0, 0)
        stats.pairs = pairs
        stats.older = older
        return stats

    @property
    def total(self) -> SideStats:
        """Both sides together."""
        return sum_of(self.primary, self.peer)

    def __repr__(self) -> str:
        fields = (("primary", self.primary), ("peer", self.peer), ("reading", self.reading))
        return "MonitorStats(" + ",\n             ".join(f"{name}={value!r}" for name, value in fields) + ")"

    def __str__(self) -> str:
        return f"primary: {self.primary} | peer: {self.peer} | {self.reading}"

    def _repr_html_(self) -> str | None:
        from netkit_bpf.internal.html import show

        return show("MonitorStats", self._tables)

    def _tables(self) -> list[object]:
        """Its tables for a notebook."""
        from netkit_bpf.internal.html import Part, Table, first

        sides = [("primary", *self.primary), ("peer", *self.peer), ("both", *self.total)]
        reading = self.reading
        filled = [
            (name, fill, size, Part(fill / size))
            for name, fill, size in (
                ("ring", reading.ring_fill, reading.ring_size),
                ("queue", reading.queue_fill, reading.queue_size),
            )
            if size
        ]
        tables: list[object] = [Table(("side", *SideStats._fields), sides, "packets")]
        if len(self.pairs) > 1:
            pairs = [
                (each.name, *map(sum, zip(each.primary, each.peer, strict=True)), each.end or "") for each in self.pairs
            ]
            tables.append(first(pairs, ("pair", *SideStats._fields, "end"), "by pair, both sides"))
        if filled:
            tables.append(Table(("buffer", "bytes that wait", "of", "full"), filled, "reading"))
        return tables
