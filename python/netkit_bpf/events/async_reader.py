# SPDX-License-Identifier: MIT
"""Reading in tasks: in asyncio, and in trio if anyio is installed.

While there is nothing to read, a task waits for the stream's descriptor in the loop that runs it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar

from netkit_bpf._core import StreamDescriptor
from netkit_bpf.events.limits import Limits
from netkit_bpf.internal.waiting import end_of, give_way, readable

_T = TypeVar("_T")
# Seconds. Without a thread, only a read notices that the device is gone.
_LOOK = 0.2


class Watched(Protocol):
    """The part of a stream that a waiting task uses."""

    @property
    def threaded(self) -> bool:
        """Whether a thread empties the rings."""

    def descriptor(self) -> StreamDescriptor | None:
        """A descriptor that is readable while there is something to read; None once nothing can come any more."""


class Reader(Generic[_T]):
    """An asynchronous iterator over a stream; it ends when the stream is closed, and at its limits.

    It takes one item at a time, after its last await, so a cancelled task has handed out every item that it took. Any
    number of these and of blocking readers may share a stream.

    Args:
        stream: the stream to read.
        waiting: returns an iterator over the available items, which does not wait.
        limits: when it ends; the duration begins now.
        patience: after this many items without a wait, the other tasks of the loop get a turn.
    """

    def __init__(self, stream: Watched, waiting: Callable[[], Iterator[_T]], limits: Limits, *, patience: int) -> None:
        self._stream = stream
        self._waiting = waiting
        self._timeout = limits.timeout
        self._end = end_of(limits.duration)
        self._left = math.inf if limits.number is None else float(limits.number)
        self._patience = patience
        self._look = math.inf if stream.threaded else _LOOK
        self._taken = 0
        self._items = waiting()
        self._ended = False

    def __aiter__(self) -> Reader[_T]:
        return self

    async def __anext__(self) -> _T:
        self._taken += 1
        if self._taken > self._patience:
            self._taken = 0
            await give_way()
        if self._ended or not self._left or (self._end != math.inf and time.monotonic() >= self._end):
            self._ended = True
            raise StopAsyncIteration
        item = next(self._items, None)
        if item is None:
            item = await self._wait()
        self._left -= 1
        return item

    async def _wait(self) -> _T:
        end = min(end_of(self._timeout), self._end)
        while True:
            late = time.monotonic() >= end
            self._items = self._waiting()  # an iterator that has ended stays ended
            item = next(self._items, None)
            if item is not None:
                return item
            descriptor = None if late else self._stream.descriptor()
            if descriptor is None:
                break
            self._taken = 0
            try:
                await readable(descriptor.fileno(), min(end - time.monotonic(), self._look))
            finally:
                descriptor.close()
        self._ended = True
        raise StopAsyncIteration
