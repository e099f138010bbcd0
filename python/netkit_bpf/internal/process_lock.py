# SPDX-License-Identifier: MIT
"""A lock that a forked child does not find locked by a thread that it has not got."""

from __future__ import annotations

import os
from _thread import RLock  # threading's own, whose import takes long


class ProcessLock:
    """A reentrant lock, which is free in a forked child, unless the thread that forked has it."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._process = os.getpid()

    def acquire(self, timeout: float = -1) -> bool:
        """Take the lock; False if it was not to be had within so many seconds. A negative timeout is none."""
        if os.getpid() != self._process and not self._lock._is_owned():  # type: ignore[attr-defined]
            self._lock, self._process = RLock(), os.getpid()
        return self._lock.acquire(timeout=timeout)

    def release(self) -> None:
        """Let go of it."""
        self._lock.release()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *exception: object) -> None:
        self.release()
