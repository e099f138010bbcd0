# SPDX-License-Identifier: MIT
"""Reading where other tasks run too: in asyncio, and in trio if anyio is installed.

No event loop is made, owned or run here. While there is nothing to read, a task waits for the stream's descriptor in
the loop that runs it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from netkit_bpf._core import Stream
from netkit_bpf.internal.waiting import give_way, readable

_T = TypeVar("_T")
# Seconds. A stream without a thread notices only in a read that its device is gone.
_LOOK = 0.2


class Reader(Generic[_T]):
    """An asynchronous iterator over a stream; it ends when the stream is closed, or after `timeout` seconds of silence.

    It takes one item at a time, after its last await: a task that is cancelled has taken nothing that it did not
    hand out. Any number of them, and of blocking readers beside them, share a stream.

    Args:
        stream: what is read.
        waiting: gives an iterator over the items that are there, which does not wait.
        timeout: seconds; None is for ever.
        patience: after how many items without a wait the other tasks of the loop have a turn.
    """

    def __init__(
        self, stream: Stream[Any], waiting: Callable[[], Iterator[_T]], timeout: float | None, *, patience: int
    ) -> None:
        self._stream = stream
        self._waiting = waiting
        self._timeout = timeout
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
        item = next(self._items, None)
        return item if item is not None else await self._wait()

    async def _wait(self) -> _T:
        end = math.inf if self._timeout is None else time.monotonic() + self._timeout
        while not self._ended:
            late = time.monotonic() >= end
            self._items = self._waiting()  # one that has ended stays ended
            item = next(self._items, None)
            if item is not None:
                return item
            watch = None if late else self._stream.watch()
            if watch is None:
                self._ended = True
                break
            self._taken = 0
            try:
                await readable(watch.fileno(), min(end - time.monotonic(), self._look))
            finally:
                watch.close()
        raise StopAsyncIteration
