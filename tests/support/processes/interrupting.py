"""Ctrl-C at any moment of a creation: a signal whose handler raises, after a random time."""

from __future__ import annotations

import _weakrefset
import contextlib
import gc
import os
import random
import signal
import time
import weakref
from collections.abc import Callable
from types import FrameType
from typing import Protocol

TIMES, SLOW_TIMES = (int(os.environ.get("NETKIT_BPF_CYCLES", times)) for times in ("1000", "100"))
_TRIED_BEFORE = 5


class Deletable(Protocol):
    def delete(self) -> None: ...


class Interrupted(BaseException):
    """Not an Exception, so that nothing catches it by accident."""


def interrupt(make: Callable[[], Deletable], times: int = TIMES) -> int:
    """Make something over and over, interrupted or else deleted; returns how often it was interrupted."""
    made: Deletable | None
    lasts = 1.0
    for _ in range(_TRIED_BEFORE):
        started = time.perf_counter()
        made = make()
        lasts = min(lasts, time.perf_counter() - started)
        made.delete()
    previous = signal.getsignal(signal.SIGALRM)
    interrupted = 0
    try:
        for _ in range(times):
            made = None
            try:
                signal.signal(signal.SIGALRM, _raise)
                signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, lasts))
                made = make()
                signal.setitimer(signal.ITIMER_REAL, 0)
                signal.signal(signal.SIGALRM, signal.SIG_IGN)  # it may have come to another thread: now or never
            except Interrupted:
                interrupted += 1
            if made is not None:  # finished in time, or interrupted after the assignment
                made.delete()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    gc.collect()
    return interrupted


def _raise(number: int, frame: FrameType | None) -> None:
    if _is_dropped(frame):
        signal.setitimer(signal.ITIMER_REAL, 1e-5)  # comes again, where it can be seen
    else:
        raise Interrupted


def _is_dropped(frame: FrameType | None) -> bool:
    """Whether Python would only print what is raised here: in a finalizer, or the callback of a weak reference."""
    while frame is not None:
        code = frame.f_code
        if code.co_name == "__del__" or code.co_filename in (_weakrefset.__file__, weakref.__file__):
            return True
        frame = frame.f_back
    return False


class Closed:
    """Makes something with close() deletable."""

    def __init__(self, closable: contextlib.AbstractContextManager[object]) -> None:
        self._closable = closable

    def delete(self) -> None:
        self._closable.__exit__(None, None, None)
