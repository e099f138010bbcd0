# SPDX-License-Identifier: MIT
"""The pairs of a reader that come and go: who observes them, since when, and what became of them."""

from __future__ import annotations

import bisect
import contextlib
import errno
import time
import weakref
from _thread import RLock  # threading takes long to import
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from netkit_bpf._core import Stream
from netkit_bpf.bpf.attached import AttachedProgram
from netkit_bpf.enums import Side
from netkit_bpf.events.pair_names import AnyOrigin, Origin, PairNames
from netkit_bpf.events.stats import End, HidingProgram, MonitorStats, PairStats, ReadingStats, SideStats, sum_of
from netkit_bpf.internal.arguments import expect
from netkit_bpf.observer.filter import FilteredCounts
from netkit_bpf.observer.observer import Observer

if TYPE_CHECKING:
    from netkit_bpf.events.pair_changes import PairChanges

_MOST = 1 << 16  # nk_event.pair has 16 bits
_KEPT = 4096  # accounts of pairs that ended
_TRIES = 16  # pairs whose numbers may be free, for each that is added
_NOTHING = SideStats(0, 0, 0, 0)
_NONE = FilteredCounts(0, 0)
_Counts = Sequence[tuple[int, int, int, int]]


@dataclass
class _Pair:
    name: str
    serial: int  # of all pairs, in the order in which they were added
    sides: tuple[Side, ...]
    netns_cookie: int | None
    start_ns: int
    observer: Observer | None = None  # while it is watched
    was_watched: bool = False
    end_ns: int | None = None
    end: End | None = None
    filtered: FilteredCounts = _NONE

    def stats(self, primary: SideStats, peer: SideStats, hidden: tuple[HidingProgram, ...] = ()) -> PairStats:
        return PairStats(self.name, primary, peer, self.start_ns, self.end_ns, self.end, self.netns_cookie, hidden)


class ObservedPairs:
    """The pairs by number. Any thread may use it.

    The number of a pair that has ended is free for another one as soon as its events were handed out, so that what is
    kept depends on how many pairs there are at a time, and not on how many there were.
    """

    stream: Stream[Any]

    def __init__(self) -> None:
        self._pairs: list[_Pair] = []  # by number
        self._ended: deque[int] = deque()  # numbers that may be free
        self._serial = 0
        self._past: list[tuple[int, PairStats]] = []  # by serial: those whose numbers are free
        self._older = (_NOTHING, _NOTHING)  # the sums of those before
        self._carried: dict[tuple[Origin, Side], SideStats] = {}  # of those before whose like came again
        self._past_filtered = _NONE  # of all whose numbers are free
        self._listeners: weakref.WeakSet[PairChanges] = weakref.WeakSet()
        self.reader = object()
        self._lock = RLock()  # a signal handler may close the reader while this thread changes something

    def add(self, name: str, sides: tuple[Side, ...], netns_cookie: int | None) -> int:
        """Announce a pair; returns its number."""
        with self._lock:
            self._note_ends()
            number = self._free_number()
            self._serial += 1
            pair = _Pair(name, self._serial, sides, netns_cookie, time.time_ns())
            origins = [(each.name, each.netns_cookie) for each in self._pairs]
            origins[number : number + 1] = [(name, netns_cookie)]
            self._pairs[number : number + 1] = [pair]
            self.stream.set_names(PairNames.of(origins, self.reader))
            return number

    def start(self, number: int, observer: Observer) -> None:
        """Let the observer be looked after."""
        with self._lock:
            pair = self._numbered(number)
            if pair.was_watched:
                raise ValueError(f"pair number {number} has an observer already, or had one")
            self.stream.add_observer(number, observer._open())
            # By now its programs are attached.
            pair.observer, pair.was_watched, pair.start_ns = observer, True, time.time_ns()
            self._tell([pair])

    def remove(self, number: int) -> None:
        """Close its observer, unless it has ended."""
        with self._lock:
            pair = self._numbered(number)
            self._note_ends()
            observer = pair.observer
            if observer is not None:
                observer.close()
                self.stream.remove_observer(number)
                self._end(pair, number, "removed", time.time_ns())
                self._tell([pair])

    def give_up(self, number: int) -> None:
        """Free the number of a pair whose programs could not be attached."""
        with self._lock:
            if not self._numbered(number).was_watched and number not in self._ended:
                self._ended.append(number)

    @property
    def observers(self) -> tuple[Observer, ...]:
        """Those of the pairs that are watched now, in the order in which they were added."""
        with self._lock:
            self._note_ends()
            return tuple(observer for each in self._in_order() if (observer := each.observer) is not None)

    def origins(self) -> tuple[Origin, ...]:
        """The name and the namespace's cookie of the pair that has each number, or had it last."""
        with self._lock:
            return tuple((each.name, each.netns_cookie) for each in self._pairs)

    def program_ids(self) -> dict[int, tuple[int, ...]]:
        """Those of the pairs that are watched now."""
        with self._lock:
            self._note_ends()
            return {
                number: observer.program_ids
                for number, each in enumerate(self._pairs)
                if (observer := each.observer) is not None
            }

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the pairs that are watched now; of those that were last, if there is none."""
        with self._lock:
            pairs = self._in_order()
            return tuple(each.name for each in pairs if each.observer is not None) or tuple(each.name for each in pairs)

    @property
    def filtered(self) -> FilteredCounts:
        """The sums of all pairs."""
        with self._lock:
            counts = [
                each.filtered if (observer := each.observer) is None else observer.filtered for each in self._pairs
            ]
            counts.append(self._past_filtered)
        return FilteredCounts(sum(each.primary for each in counts), sum(each.peer for each in counts))

    def stats(self, reading: Callable[[int, int, int, int], ReadingStats]) -> MonitorStats:
        """All counts; `reading` takes those of the stream."""
        with self._lock:  # meanwhile no number gets another pair
            self._note_ends()
            (primary, peer), by_pair, limits = self.stream.account()
            pairs = tuple(stats for _, stats in self._accounts(by_pair))
            return MonitorStats(SideStats(*primary), SideStats(*peer), reading(*limits), pairs, self._older)

    def sums(self) -> dict[tuple[AnyOrigin, Side], SideStats]:
        """The counts of each side of each name in each namespace: of the pairs in the stats, and those before."""
        with self._lock:
            self._note_ends()
            found: dict[tuple[AnyOrigin, Side], SideStats] = {}
            for _, each in self._accounts(self.stream.account()[1]):
                for side in Side:
                    key = (each.name, each.netns_cookie), side
                    found[key] = sum_of(found.get(key) or self._carried.get(key, _NOTHING), getattr(each, side))
            return found

    def changes(self) -> PairChanges:
        """A stream of what changes, and of the pairs that are watched by now."""
        from netkit_bpf.events.pair_changes import PairChanges  # few ask

        with self._lock:
            self._note_ends()
            changes = PairChanges(self, self.stream.ends_fd())
            self._listeners.add(changes)
            self._tell([each for each in self._in_order() if each.observer is not None], [changes])
            return changes

    def note_ends(self) -> None:
        """Take note of the pairs that were deleted, and tell of them."""
        with self._lock:
            self._note_ends()

    def let_go(self, changes: PairChanges) -> None:
        """Tell them no more, and let them release what they hold."""
        with self._lock:
            self._listeners.discard(changes)
            changes.release()

    def senders(self) -> tuple[tuple[str, ...], list[str | None], list[list[int]]]:
        """The stream's names of all primaries, the names of their peers, and the numbers of the sides."""
        with self._lock:
            pairs = self._pairs[:]
            names = self.stream.names
            observers = [each.observer for each in pairs]
        peers = [None if each is None else each._peer_name() for each in observers]
        return names, peers, [[side.number for side in each.sides] for each in pairs]

    def close(self) -> None:
        """Close all observers."""
        with self._lock, contextlib.ExitStack() as last:
            for each in self._pairs:
                if (observer := each.observer) is not None:
                    last.callback(observer.close)
                    observer._detach()

    def end_changes(self) -> None:
        """Let the streams of changes end, once the reader is closed."""
        with self._lock:
            listeners = list(self._listeners)
            self._listeners.clear()
        for each in listeners:
            each.end()

    def _numbered(self, number: int) -> _Pair:
        if expect(number, int, "number") not in range(len(self._pairs)):
            raise ValueError(f"there is no pair number {number}: add_pair() gives the numbers")
        return self._pairs[number]

    def _in_order(self) -> list[_Pair]:
        return sorted(self._pairs, key=lambda each: each.serial)

    def _note_ends(self) -> None:
        """Take note of the pairs that were deleted, and release what was kept for them."""
        ended = []
        for number, end_ns in self.stream.take_ends():
            pair = self._pairs[number]
            observer = pair.observer
            if observer is not None:
                observer.close()
                self._end(pair, number, "deleted", end_ns)
                ended.append(pair)
        self._tell(ended)

    def _end(self, pair: _Pair, number: int, end: End, end_ns: int) -> None:
        observer = pair.observer
        assert observer is not None
        pair.filtered = observer.filtered
        pair.observer, pair.end, pair.end_ns = None, end, end_ns
        self._ended.append(number)

    def _free_number(self) -> int:
        for _ in range(min(len(self._ended), _TRIES)):
            number = self._ended.popleft()
            if (final := self.stream.release_pair(number)) is not None:
                self._let_go(self._pairs[number], *(SideStats(*each) for each in final))
                return number
            self._ended.append(number)  # its events were not handed out
        if len(self._pairs) == _MOST:
            raise OSError(
                errno.ENOSPC,
                f"there are no more numbers: {_MOST} pairs are watched, or have ended with events that were not read",
            )
        return len(self._pairs)

    def _let_go(self, pair: _Pair, primary: SideStats, peer: SideStats) -> None:
        """Keep only the account of a pair, and drop the oldest one."""
        past = self._past_filtered
        self._past_filtered = FilteredCounts(past.primary + pair.filtered.primary, past.peer + pair.filtered.peer)
        if pair.was_watched or any((*primary, *peer)):  # else attaching failed
            bisect.insort(self._past, (pair.serial, pair.stats(primary, peer)))
        if len(self._past) <= _KEPT:
            return
        _, old = self._past.pop(0)
        self._older = sum_of(self._older[0], old.primary), sum_of(self._older[1], old.peer)
        origin = old.name, old.netns_cookie
        later = *((each.name, each.netns_cookie) for _, each in self._past), *self.origins()
        for side in Side:
            carried = sum_of(self._carried.pop((origin, side), _NOTHING), getattr(old, side))
            if origin in later:
                self._carried[origin, side] = carried

    def _accounts(self, counts: _Counts) -> list[tuple[int, PairStats]]:
        """Those that are kept, in the order in which the pairs were added."""
        current = [(pair.serial, stats) for pair, stats in self._current(counts)]
        return sorted(self._past + current)

    def _current(self, counts: _Counts) -> list[tuple[_Pair, PairStats]]:
        """The accounts of the pairs that have numbers now."""
        hidden: dict[int, tuple[HidingProgram, ...]] = {}
        for number, side, (program_id, link_id, name), packets in self.stream.hiding():
            program = AttachedProgram(program_id, name, link_id or None)
            hidden[number] = (*hidden.get(number, ()), HidingProgram(Side.from_number(side), program, packets))
        found = []
        for number, (pair, primary, peer) in enumerate(zip(self._pairs, counts[::2], counts[1::2], strict=False)):
            if pair.was_watched or any((*primary, *peer)):  # else attaching failed
                there = hidden.get(number, ()) if pair.observer is not None else ()
                found.append((pair, pair.stats(SideStats(*primary), SideStats(*peer), there)))
        return found

    def _tell(self, pairs: Sequence[_Pair], listeners: Sequence[PairChanges] | None = None) -> None:
        listeners = list(self._listeners) if listeners is None else listeners
        if not listeners or not pairs:
            return
        from netkit_bpf.events.pair_changes import PairChange

        accounts = {id(pair): stats for pair, stats in self._current(self.stream.account()[1])}
        for pair in pairs:
            change = PairChange(pair.end or "added", pair.end_ns or pair.start_ns, accounts[id(pair)])
            for each in listeners:
                each.put(change)
