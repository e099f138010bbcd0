# SPDX-License-Identifier: MIT
"""What programs print with bpf_printk(): bpf-helpers(7)."""

from __future__ import annotations

import os
import time
import weakref
from typing import NamedTuple

from netkit_bpf._core import ClockOffset
from netkit_bpf.bpf.tracing.tracefs import Instance, parse
from netkit_bpf.internal.arguments import expect
from netkit_bpf.internal.event_stream import EventStream

_PATIENCE = 0.5  # seconds


class TraceLine(NamedTuple):
    """One call of bpf_printk().

    Attributes:
        task: the name of the task that the program interrupted, or ran for; "<...>" if the kernel has forgotten it.
        pid: the task's thread id in the initial PID namespace; in a container, the task itself sees another one.
        cpu: the number of the CPU.
        timestamp_ns: Unix time in nanoseconds, with the microsecond resolution of the kernel.
        text: the printed text, without the newline at its end.
    """

    task: str
    pid: int
    cpu: int
    timestamp_ns: int
    text: str

    def __str__(self) -> str:
        return self.text


class TraceLog(EventStream[TraceLine]):
    """What programs print with bpf_printk(), from the moment the log is opened: `TraceLine`s.

    Made by `trace_log`. `read`, `events` and `async for` are those of a `Monitor`. Any thread may read, and each line
    goes to one reader. Any thread or signal handler may close it, which wakes the readers. A forked child cannot use
    it.
    """

    _called = "the trace log"

    def __init__(self, prefix: str) -> None:
        import threading

        super().__init__()
        self._prefix = os.fsencode(prefix)
        self._lost = 0
        self._turn = threading.RLock()  # a signal handler may read too
        self._clock = ClockOffset()
        self._instance = Instance()
        self._closer = weakref.finalize(self, self._instance.close)
        try:
            self._instance.open()
        except BaseException:
            self._closer()
            raise

    @property
    def lost(self) -> int:
        """How many lines were overwritten before they could be read, up to the current position."""
        return self._lost

    def _take(self, end: float) -> TraceLine | None:
        """Skip lines without the prefix, until `end`, or for a short while if that has passed."""
        end = max(end, time.monotonic() + _PATIENCE)
        while True:
            with self._turn:
                taken = self._instance.take()
                if taken is None:
                    return None
                entry, lost = parse(taken)
                self._lost += lost
                offset = self._clock.now()
            if entry is not None and entry.text.startswith(self._prefix):
                task, text = (each.decode(errors="replace") for each in (entry.task, entry.text))
                return TraceLine(task, entry.pid, entry.cpu, entry.monotonic_ns + offset, text)
            if self.closed or time.monotonic() >= end:
                return None

    def _descriptor(self) -> int:
        return self._instance.fileno()

    def _wake(self) -> None:
        self._instance.wake()

    def _let_go(self) -> None:
        self._closer()


def trace_log(*, prefix: str = "") -> TraceLog:
    """Listen to what programs print with bpf_printk().

    The kernel does not record which program printed a line: the log has the lines of all programs on the machine. Start
    your format strings with a word of their own, and select it with `prefix`. Other readers of the trace pipe lose
    nothing: the log is a tracefs instance with only this event. `close` removes it; the next log removes the instances
    of processes that were killed in this PID namespace. One that a killed container left stays until it is removed from
    the directory `instances` of tracefs.

    Args:
        prefix: only lines that begin so.

    Raises:
        FileNotFoundError: tracefs is not mounted.
        PermissionError: this process is not root, or the kernel is locked down.

    >>> with nk.trace_log(prefix="filter:") as log:  # doctest: +SKIP
    ...     ns.run(["ping", "-c1", "fd00::1"])
    ...     for line in log.events(timeout=1.0):
    ...         print(line.task, line.text)
    """
    return TraceLog(expect(prefix, str, "prefix"))
