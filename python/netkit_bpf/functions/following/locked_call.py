# SPDX-License-Identifier: MIT
"""Calling a method of an object that another thread may be closing."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from netkit_bpf.internal.process_lock import ProcessLock

_TRY = 0.1  # seconds of waiting for the lock, after which it looks whether it is over meanwhile


def call_with_lock(
    lock: ProcessLock, is_over: Callable[[], bool], method: weakref.WeakMethod[Callable[..., None]], *arguments: Any
) -> None:
    """Call the method with the lock, unless it is over or the object gone before the lock was to be had."""
    while not is_over():
        if lock.acquire(timeout=_TRY):
            try:
                if not is_over() and (bound := method()) is not None:
                    bound(*arguments)
            finally:
                lock.release()
            return
