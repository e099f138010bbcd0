# SPDX-License-Identifier: MIT
"""Streams of events that Python reads itself, with the same ways to read as those of packets."""

from __future__ import annotations

import math
import os
import time
from abc import abstractmethod
from collections.abc import AsyncIterator, Iterator
from typing import Any, Generic, TypeVar

from netkit_bpf.internal.arguments import expect_in, expect_timeout
from netkit_bpf.internal.resource import Closing
from netkit_bpf.internal.waiting import end_of, give_way, readable, wait_readable

_T = TypeVar("_T")
_S = TypeVar("_S", bound="EventStream[Any]")
_PATIENCE = 256  # items without a wait, after which the other tasks of an event loop have a turn


class EventStream(Closing, Generic[_T]):
    """What is read as events come.

    Any thread may read, and several may: each event goes to one of them. Any thread, a signal handler and the garbage
    collector may close it, which wakes the readers. No lock is held for that: what is read from is let go of by
    whoever leaves last, a reader or the closer.
    """

    _called: str  # in errors

    def __init__(self) -> None:
        self._process = os.getpid()
        self._closed = False
        self._users: set[object] = set()  # who reads, or waits

    @abstractmethod
    def _take(self, end: float) -> _T | None:
        """The next event; None if there is none yet. It may look for one until `end`, and waits for none."""

    @abstractmethod
    def _descriptor(self) -> int:
        """What is readable while there may be an event, once it is woken, and once no event can come any more."""

    @abstractmethod
    def _wake(self) -> None:
        """Make the descriptor readable for ever."""

    @abstractmethod
    def _let_go(self) -> None:
        """Let go of what is read from. Nobody uses it any more; idempotent."""

    def _is_over(self) -> bool:
        """Whether no event can come any more."""
        return False

    def read(self, timeout: float | None = None) -> _T | None:
        """Return the next event; None after `timeout` seconds without one, or when none can come any more.

        A timeout of 0 only looks.

        Raises:
            ValueError: it is closed.
        """
        timeout = expect_timeout(timeout)
        self._check_open()
        return self._read(end_of(timeout))

    def events(
        self, timeout: float | None = None, duration: float | None = None, count: int | None = None
    ) -> Events[_T]:
        """Iterate over the events, with `for` or with `async for`.

        The iterator also ends on `close`, and when no event can come any more.

        Args:
            timeout: seconds of silence after which it ends. With 0 it gives what is there and waits for nothing.
            duration: seconds from now on after which it ends, also where events keep coming.
            count: how many events it gives at most.

        Raises:
            ValueError: it is closed.
        """
        self._check_open()
        return Events(self, timeout, duration, count)

    def __iter__(self) -> Iterator[_T]:
        return self.events()

    def __aiter__(self) -> AsyncIterator[_T]:
        return self.events()

    def fileno(self) -> int:
        """A descriptor for `select` and its like: readable while there may be something to read.

        It stays readable until a read finds nothing: read with a timeout of 0 until None comes. It is gone once the
        stream is closed.

        Raises:
            ValueError: it is closed.
        """
        self._check_open()
        return self._descriptor()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def close(self) -> None:
        """Stop listening and wake the readers. Idempotent."""
        self._closed = True
        if os.getpid() != self._process:
            self._users = set()  # a forked child has none of those threads, and may not wake its parent's
        elif self._users:
            self._wake()
        self._leave(None)

    def _read(self, end: float) -> _T | None:
        self._check_process()
        me = object()
        try:
            self._users.add(me)
            while not self._closed:
                event = self._take(end)
                if event is not None:
                    return event
                if self._is_over() or time.monotonic() >= end:
                    break
                wait_readable(self._descriptor(), end)
            return None
        finally:
            self._leave(me)

    async def _aread(self, end: float) -> _T | None:
        self._check_process()
        me = object()
        try:
            self._users.add(me)
            while not self._closed:
                event = self._take(end)
                if event is not None:
                    return event
                if self._is_over() or time.monotonic() >= end:
                    break
                own = os.dup(self._descriptor())  # an event loop has one reader a descriptor
                try:
                    await readable(own, end - time.monotonic())
                finally:
                    os.close(own)
            return None
        finally:
            self._leave(me)

    def _leave(self, user: object) -> None:
        self._users.discard(user)
        if self._closed and not self._users:
            self._let_go()

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError(f"{self._called} is closed")
        self._check_process()

    def _check_process(self) -> None:
        if os.getpid() != self._process:
            raise ValueError(f"{self._called} belongs to the process that made it, not to its forked child")

    def __enter__(self: _S) -> _S:
        self._check_open()
        return self

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'closed' if self._closed else 'open'}>"


class Events(Generic[_T]):
    """An iterator over a stream, for `for` and for `async for`. One that has ended stays ended."""

    def __init__(
        self, stream: EventStream[_T], timeout: float | None, duration: float | None, count: int | None
    ) -> None:
        self._stream = stream
        self._timeout = expect_timeout(timeout)
        self._end = end_of(expect_timeout(duration, "duration"))
        self._left = math.inf if count is None else expect_in(count, range(1 << 63), "count")
        self._taken = 0

    def __iter__(self) -> Events[_T]:
        return self

    def __next__(self) -> _T:
        event = self._stream._read(self._next_end()) if self._left else None
        if event is None:
            self._left = 0
            raise StopIteration
        self._left -= 1
        return event

    def __aiter__(self) -> Events[_T]:
        return self

    async def __anext__(self) -> _T:
        self._taken += 1
        if self._taken % _PATIENCE == 0:
            await give_way()
        event = await self._stream._aread(self._next_end()) if self._left else None
        if event is None:
            self._left = 0
            raise StopAsyncIteration
        self._left -= 1
        return event

    def _next_end(self) -> float:
        return min(self._end, end_of(self._timeout))
