# SPDX-License-Identifier: MIT
"""Waiting until a descriptor is readable: in a thread, and in a task of asyncio, or of trio if anyio is installed.

Signal handlers run meanwhile. No event loop is made, owned or run here.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

_SLICE = 3600.0  # seconds; poll(2) takes 24 days at most


def end_of(timeout: float | None) -> float:
    """The end of a wait that begins now, by time.monotonic(); None waits for ever."""
    return math.inf if timeout is None else time.monotonic() + timeout


def wait_readable(fd: int, end: float) -> None:
    """Return once the descriptor is readable or `end` has come. May return early, so check."""
    import select

    ready = select.poll()
    ready.register(fd, select.POLLIN)
    ready.poll(max(0.0, min(end - time.monotonic(), _SLICE)) * 1000)


async def readable(fd: int, timeout: float) -> None:
    """Wait until a descriptor is readable, for `timeout` seconds at most. One task at a time may wait for it."""
    if _in_asyncio():
        await _readable_in_asyncio(fd, timeout)
        return
    anyio = _anyio()
    with anyio.move_on_after(timeout):
        await anyio.wait_readable(fd)


async def give_way() -> None:
    """Let other tasks run."""
    if _in_asyncio():
        import asyncio

        await asyncio.sleep(0)
    else:
        await _anyio().sleep(0)


async def _readable_in_asyncio(fd: int, timeout: float) -> None:
    import asyncio

    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    timer = None if timeout == math.inf else loop.call_later(timeout, wake)
    loop.add_reader(fd, wake)
    try:
        await ready
    finally:
        loop.remove_reader(fd)
        if timer is not None:
            timer.cancel()


def _in_asyncio() -> bool:
    import sys

    # If asyncio is not imported, its loop is not running; importing it takes longer than this whole package.
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return False
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _anyio() -> Any:
    try:
        import anyio
    except ImportError as error:
        raise ImportError("outside asyncio this needs anyio: pip install anyio") from error
    return anyio
