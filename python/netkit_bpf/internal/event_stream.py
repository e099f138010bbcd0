# SPDX-License-Identifier: MIT
"""Streams of events that Python code reads itself, with the same methods as streams of packets."""

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
_PATIENCE = 256  # items in a row, after which the other tasks of an event loop get a turn


class EventStream(Closing, Generic[_T]):
    """A stream of events, read as they come.

    Any thread may read, and several may: each event goes to one of them. Any thread, a signal handler and the garbage
    collector may close it, which wakes the readers. No lock is held for that: the last user to leave, a reader or the
    closer, releases the source.
    """

    _called: str  # in errors

    def __init__(self) -> None:
        self._process = os.getpid()
        self._closed = False
        self._users: set[object] = set()  # those that read or wait

    @abstractmethod
    def _take(self, end: float) -> _T | None:
        """The next event; None if there is none yet. May search until `end`, but does not wait."""

    @abstractmethod
    def _descriptor(self) -> int:
        """A descriptor that is readable while there may be an event, after `_wake`, and once no event can come any
        more."""

    @abstractmethod
    def _wake(self) -> None:
        """Make the descriptor readable for ever."""

    @abstractmethod
    def _let_go(self) -> None:
        """Release the source; nobody uses it any more. Idempotent."""

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
            duration: seconds from now after which it ends, even if events keep coming.
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
        me = object()
        self._users.add(me)  # so that no reader that leaves meanwhile releases what is about to be woken
        was_open, self._closed = not self._closed, True
        if os.getpid() != self._process:
            self._users = set()  # a forked child has none of those threads, and must not wake its parent's
        try:
            if was_open and len(self._users) > 1:
                self._wake()
        finally:
            self._leave(me)

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
        import select

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
                with select.epoll() as own:  # an event loop takes one reader per descriptor
                    own.register(self._descriptor(), select.EPOLLIN)
                    await readable(own.fileno(), end - time.monotonic())
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
    """An iterator over a stream, for `for` and for `async for`. Once ended, it stays ended."""

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
