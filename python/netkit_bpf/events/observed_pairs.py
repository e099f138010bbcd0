# SPDX-License-Identifier: MIT
"""The pairs of a reader that come and go: who observes them, since when, and what became of them."""

from __future__ import annotations

import errno
import time
from _thread import RLock  # threading takes long to import
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from netkit_bpf._core import Stream
from netkit_bpf.enums import Side
from netkit_bpf.events.stats import PairStats, SideStats
from netkit_bpf.internal.arguments import expect
from netkit_bpf.observer.filter import FilteredCounts
from netkit_bpf.observer.observer import Observer

_MOST = 1 << 16  # nk_event.pair has 16 bits
_NONE = FilteredCounts(0, 0)
_Counts = Sequence[tuple[int, int, int, int]]


@dataclass
class _Pair:
    name: str
    observer: Observer | None = None  # while it is watched
    number: int = -1  # the core's, of the observer
    sides: tuple[Side, ...] = tuple(Side)
    netns_cookie: int | None = None
    start_ns: int = 0
    end_ns: int | None = None
    end: Literal["deleted", "removed"] | None = None
    filtered: FilteredCounts = _NONE


class ObservedPairs:
    """The pairs by number. Any thread may use it."""

    stream: Stream[Any]

    def __init__(self) -> None:
        self._pairs: list[_Pair] = []
        self._lock = RLock()  # a signal handler may close the reader while this thread changes something

    def add(self, name: str, sides: tuple[Side, ...], netns_cookie: int | None) -> int:
        """Announce a pair; returns its number."""
        with self._lock:
            if len(self._pairs) == _MOST:
                raise OSError(
                    errno.ENOSPC, f"there have been {_MOST} pairs, and there are no more numbers: make another"
                )
            self._pairs.append(_Pair(name, sides=sides, netns_cookie=netns_cookie, start_ns=time.time_ns()))
            return self.stream.add_pair(name)

    def start(self, number: int, observer: Observer) -> None:
        """Let the observer be looked after."""
        with self._lock:
            pair = self._numbered(number)
            pair.number = self.stream.add_observer(observer._open())
            pair.observer, pair.start_ns = observer, time.time_ns()  # by now its programs are attached

    def remove(self, number: int) -> None:
        """Close its observer, unless it has ended."""
        with self._lock:
            pair = self._numbered(number)
            self._note_ends()
            if pair.observer is not None:
                pair.observer.close()
                self.stream.remove_observer(pair.number)
                self._end(pair, "removed", time.time_ns())

    @property
    def observers(self) -> tuple[Observer, ...]:
        """Those of the pairs that are watched now."""
        with self._lock:
            self._note_ends()
            return tuple(each.observer for each in self._pairs if each.observer is not None)

    def origins(self) -> tuple[tuple[str, int | None], ...]:
        """The name and the namespace's cookie of each pair that is or was watched."""
        with self._lock:
            return tuple((each.name, each.netns_cookie) for each in self._pairs)

    def program_ids(self) -> dict[int, tuple[int, ...]]:
        """Those of the pairs that are watched now."""
        with self._lock:
            self._note_ends()
            return {
                number: each.observer.program_ids
                for number, each in enumerate(self._pairs)
                if each.observer is not None
            }

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the pairs that are watched now; of those that were, if there is none."""
        with self._lock:
            return tuple(each.name for each in self._pairs if each.observer is not None) or tuple(
                each.name for each in self._pairs
            )

    @property
    def filtered(self) -> FilteredCounts:
        """The sums of all pairs."""
        with self._lock:
            counts = [each.filtered if each.observer is None else each.observer.filtered for each in self._pairs]
        return FilteredCounts(sum(each.primary for each in counts), sum(each.peer for each in counts))

    def stats(self, counts: _Counts) -> tuple[PairStats, ...]:
        """The counts of each pair, of those of all sides by number."""
        with self._lock:
            self._note_ends()
            found = []
            for pair, primary, peer in zip(self._pairs, counts[::2], counts[1::2], strict=False):
                if pair.number >= 0 or any((*primary, *peer)):  # else attaching failed
                    sides = SideStats(*primary), SideStats(*peer)
                    found.append(PairStats(pair.name, *sides, pair.start_ns, pair.end_ns, pair.end, pair.netns_cookie))
            return tuple(found)

    def senders(self) -> tuple[list[str], list[str | None], list[list[int]]]:
        """The names of all primaries, those of their peers, and the numbers of the sides that are watched."""
        with self._lock:
            pairs = self._pairs[:]
            observers = [each.observer for each in pairs]
        peers = [None if each is None else each._peer_name() for each in observers]
        return [each.name for each in pairs], peers, [[side.number for side in each.sides] for each in pairs]

    def close(self) -> None:
        """Close all observers."""
        with self._lock:
            for each in self._pairs:
                if each.observer is not None:
                    each.observer.close()

    def _numbered(self, number: int) -> _Pair:
        if expect(number, int, "number") not in range(len(self._pairs)):
            raise ValueError(f"there is no pair number {number}: add_pair() gives the numbers")
        return self._pairs[number]

    def _note_ends(self) -> None:
        """Take note of the pairs that were deleted, and release what was kept for them."""
        for pair, end_ns in self._watched():
            if end_ns and pair.observer is not None:
                pair.observer.close()
                self._end(pair, "deleted", end_ns)

    def _watched(self) -> list[tuple[_Pair, int]]:
        ends = self.stream.ends()
        return [(each, ends[each.number]) for each in self._pairs if each.observer is not None]

    def _end(self, pair: _Pair, end: Literal["deleted", "removed"], end_ns: int) -> None:
        assert pair.observer is not None
        pair.filtered = pair.observer.filtered
        pair.observer, pair.end, pair.end_ns = None, end, end_ns
