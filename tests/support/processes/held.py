"""A lock that another thread holds, as it may at a fork."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any


@contextmanager
def held_elsewhere(lock: AbstractContextManager[Any]) -> Iterator[None]:
    """Another thread holds the lock meanwhile."""
    holding, done = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            holding.set()
            done.wait()

    other = threading.Thread(target=hold)
    other.start()
    holding.wait()
    try:
        yield
    finally:
        done.set()
        other.join()
