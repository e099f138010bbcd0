# SPDX-License-Identifier: MIT
"""The account of a monitor."""

from __future__ import annotations

from typing import NamedTuple


class SideStats(NamedTuple):
    """What became of the packets of one side. At a quiet moment `seen == delivered + lost + pending`.

    Attributes:
        seen: packets that reached the hook and match the filter, if there is one.
        delivered: events handed out.
        lost: packets that found the ring full; they went their way unrecorded.
        pending: events that wait to be read.
    """

    seen: int
    delivered: int
    lost: int
    pending: int

    def __str__(self) -> str:
        return " ".join(f"{name}={value}" for name, value in self._asdict().items())


class ReadingStats(NamedTuple):
    """How near the reading is to its limits. Packets are lost while the ring is full.

    Attributes:
        ring_fill: bytes that wait in the ring.
        ring_size: bytes that fit.
        queue_fill: bytes that wait behind the ring; it takes what the ring holds until it is full.
        queue_size: bytes that fit.
        naps: how often the reader rested instead of asking to be woken, because events kept coming. The thread that
            monitors share naps and wakes for all of them.
        wakeups: how often a packet woke it, which costs that packet some microseconds.
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
    """The account of a monitor: a pair of `SideStats`, and beside them the state of its reading.

    Attributes:
        primary: the account of the primary's side.
        peer: the account of the peer's side.
        reading: how near the reading is to its limits.
    """

    reading: ReadingStats

    def __new__(cls, primary: SideStats, peer: SideStats, reading: ReadingStats | None = None) -> MonitorStats:
        """Make one; no reading is one without limits."""
        stats = super().__new__(cls, primary, peer)
        stats.reading = reading or ReadingStats(0, 0, 0, 0, 0, 0)
        return stats

    @property
    def total(self) -> SideStats:
        """Both sides together."""
        return SideStats(*map(sum, zip(self.primary, self.peer, strict=True)))

    def __repr__(self) -> str:
        fields = (("primary", self.primary), ("peer", self.peer), ("reading", self.reading))
        return "MonitorStats(" + ",\n             ".join(f"{name}={value!r}" for name, value in fields) + ")"

    def __str__(self) -> str:
        return f"primary: {self.primary} | peer: {self.peer} | {self.reading}"
