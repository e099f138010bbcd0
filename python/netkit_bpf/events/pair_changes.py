# SPDX-License-Identifier: MIT
"""Pairs that a monitor begins and ceases to watch."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from netkit_bpf.events.stats import PairStats
from netkit_bpf.internal.event_stream import EventStream

if TYPE_CHECKING:
    import select


class Pairs(Protocol):
    """Who tells of changes."""

    def note_ends(self) -> None:
        """Take note of the pairs that were deleted, and tell of them."""

    def let_go(self, changes: PairChanges) -> None:
        """Tell them no more, and let them release what they hold."""


class PairChange(NamedTuple):
    """A monitor watches a pair from now on, or no longer.

    Attributes:
        kind: "added", by `Monitor.add` or because it came to the namespace of `Monitor.all`; "removed", by
            `Monitor.remove`; or "deleted", the pair was.
        time_ns: Unix time in nanoseconds. Every packet of an added pair is seen from then on. All events of a pair that
            has ended are older.
        pair: its counts at that time. Of one that has ended `seen` and `lost` are final; events that are `pending` come
            after this notice.
    """

    kind: Literal["added", "removed", "deleted"]
    time_ns: int
    pair: PairStats

    def __str__(self) -> str:
        if self.kind == "added":
            return f"{self.pair.name} added"
        seen, lost = (sum(counts) for counts in zip(self.pair.primary[::2], self.pair.peer[::2], strict=True))
        return f"{self.pair.name} {self.kind}: seen={seen} lost={lost}"


class PairChanges(EventStream[PairChange]):
    """Reports pairs that a monitor begins and ceases to watch: `PairChange`s, in the order of their times.

    Made by `Monitor.changes`. `read`, `events` and `async for` are those of a `Monitor`; they also end when the monitor
    is closed. Any thread may read, and each change goes to one reader. Any thread or signal handler may close it, which
    wakes the readers. A forked child cannot use it.
    """

    _called = "the stream of changes"

    def __init__(self, pairs: Pairs, ends: int) -> None:
        import select

        super().__init__()
        self._pairs: Pairs | None = pairs
        self._changes: deque[PairChange] = deque()
        self._ended = False
        with contextlib.ExitStack() as undo:
            self._more = _eventfd(undo)
            self._stopped = _eventfd(undo)
            self._ready: select.epoll | None = undo.enter_context(select.epoll())
            for fd in (ends, self._more, self._stopped):
                self._ready.register(fd, select.EPOLLIN)
            self._held = undo.pop_all()

    def put(self, change: PairChange) -> None:
        """Add a change; the pairs' lock is held."""
        if self._ready is not None:
            self._changes.append(change)
            os.eventfd_write(self._more, 1)

    def end(self) -> None:
        """No further change comes."""
        self._ended = True
        if self._ready is not None:
            os.eventfd_write(self._stopped, 1)

    def _take(self, end: float) -> PairChange | None:  # noqa: ARG002 - it never searches for long
        pairs = self._pairs
        if pairs is not None:
            pairs.note_ends()
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._more)
        try:
            change = self._changes.popleft()
        except IndexError:
            return None
        if self._changes:
            os.eventfd_write(self._more, 1)
        return change

    def _is_over(self) -> bool:
        return self._ended and not self._changes

    def _descriptor(self) -> int:
        ready = self._ready
        if ready is None:
            raise ValueError(f"{self._called} is closed")
        return ready.fileno()

    def _wake(self) -> None:
        os.eventfd_write(self._stopped, 1)

    def _let_go(self) -> None:
        pairs, self._pairs = self._pairs, None
        if pairs is None or os.getpid() != self._process:  # a forked child takes no lock: another thread may hold it
            self.release()
        else:
            pairs.let_go(self)

    def release(self) -> None:
        """Close the descriptors."""
        self._ready = None
        self._held.close()


def _eventfd(undo: contextlib.ExitStack) -> int:
    fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    undo.callback(os.close, fd)
    return fd
