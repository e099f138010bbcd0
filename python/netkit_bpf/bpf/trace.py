# SPDX-License-Identifier: MIT
"""What programs print with bpf_printk(): bpf-helpers(7), Documentation/trace/ftrace.rst."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import re
import time
import weakref
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from netkit_bpf.internal.arguments import expect, expect_timeout
from netkit_bpf.internal.resource import Closing

if TYPE_CHECKING:
    import threading

_NAME = "netkit-bpf"  # of an instance: this, the process's id and a number
_EVENT = "events/bpf_trace/bpf_trace_printk/enable"
# What another user of tracefs may have chosen for all instances, and what would change the lines.
_OPTIONS = ("context-info", "irq-info", "record-cmd", "overwrite")
_NOT_OPTIONS = (
    *("annotate", "bin", "fields", "hex", "latency-format", "printk-msg-only", "raw", "record-tgid", "verbose"),
    *("stacktrace", "userstacktrace"),
)
_CHUNK = 1 << 16
# The task's name is padded to 16 columns, and may hold anything (kernel/trace/trace_output.c).
# Compiled when they are first used: importing is quick.
_LINE = rb"(?s:(.{16})-(\d+) +\[(\d+)\] \S+ +(\d+)\.(\d{6}): bpf_trace_printk: (.*))"
_LOST = rb"CPU:\d+ \[LOST (\d+) EVENTS\]"

_counter = itertools.count()


class TraceLine(NamedTuple):
    """One call of bpf_printk().

    Attributes:
        task: the name of the task that the program interrupted, or ran for; "<...>" where the kernel forgot it.
        pid: that task's thread id in the first PID namespace; in a container it knows itself by another.
        cpu: the number of the CPU.
        timestamp_ns: Unix time in nanoseconds; the kernel tells microseconds.
        text: what was printed, without a newline at its end.
    """

    task: str
    pid: int
    cpu: int
    timestamp_ns: int
    text: str

    def __str__(self) -> str:
        return self.text


class TraceLog(Closing):
    """What programs print with bpf_printk(), from the moment the log is opened.

    Made by `trace_log`. Iterating gives `TraceLine`s and ends after `timeout` seconds of silence, or on `close`;
    it can be begun anew. One thread at a time may read; any may close, which wakes the reader.
    """

    def __init__(self, prefix: str, timeout: float | None) -> None:
        """Not for callers: use `trace_log`."""
        self._prefix = prefix
        self._timeout = timeout
        self._lines: deque[TraceLine] = deque()
        self._lost = 0
        import threading

        self._reading = threading.Lock()
        instance = _make_instance(_tracefs())
        with contextlib.ExitStack() as undo:
            undo.callback(_remove_instance, instance)
            _configure(instance)
            self._pipe = _open(instance / "trace_pipe", os.O_RDONLY | os.O_NONBLOCK)
            undo.callback(os.close, self._pipe)
            self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            undo.callback(os.close, self._wake)
            _write(instance / _EVENT, "1")
            undo.pop_all()
        self._closer = weakref.finalize(self, _close, self._pipe, self._wake, self._reading, instance)

    @property
    def lost(self) -> int:
        """How many lines were overwritten before they were read, as far as reading has come."""
        return self._lost

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return not self._closer.alive

    def read(self, timeout: float | None = None) -> TraceLine | None:
        """Return one line; None after `timeout` seconds without one, or when the log is closed meanwhile.

        Raises:
            ValueError: the log is closed.
        """
        timeout = expect_timeout(timeout)
        self._check_open()
        return self._next(timeout)

    def __iter__(self) -> Iterator[TraceLine]:
        self._check_open()
        while (line := self._next(self._timeout)) is not None:
            yield line

    def close(self) -> None:
        """Stop listening. Idempotent."""
        self._closer()

    def _next(self, timeout: float | None) -> TraceLine | None:
        end = None if timeout is None else time.monotonic() + timeout
        with self._reading:
            while not self._lines:
                if self.closed:
                    return None
                import select

                ready = select.poll()
                ready.register(self._pipe, select.POLLIN)
                ready.register(self._wake, select.POLLIN)
                left = None if end is None else max(0.0, end - time.monotonic()) * 1000
                found = [fd for fd, _ in ready.poll(left)]
                if self._wake in found:
                    return None
                if not self._fetch() and end is not None and time.monotonic() >= end:
                    return None
            return self._lines.popleft()

    def _fetch(self) -> bool:
        """Take in what is there; False if that is nothing."""
        try:
            chunk = os.read(self._pipe, _CHUNK)
        except BlockingIOError:
            return False
        offset = time.time_ns() - time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        lines, lost = parse(chunk, offset)
        self._lost += lost
        self._lines.extend(line for line in lines if line.text.startswith(self._prefix))
        return bool(chunk)

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("the trace log is closed")

    def __enter__(self) -> TraceLog:
        self._check_open()
        return self

    def __repr__(self) -> str:
        return f"<TraceLog {'closed' if self.closed else 'open'}>"


def trace_log(*, prefix: str = "", timeout: float | None = None) -> TraceLog:
    """Listen to what programs print with bpf_printk().

    The kernel does not record which program printed a line: the log has those of all programs on the machine, this
    package's and others. Begin your formats with a word of their own, and ask for it with `prefix`. Other readers of
    the trace pipe lose nothing: the log is an instance of tracefs with no event but this one, which `close` removes;
    what a killed process left is removed by the next log.

    Args:
        prefix: only lines that begin so.
        timeout: seconds of silence after which iterating ends; None never ends it.

    Raises:
        FileNotFoundError: tracefs is not mounted.
        PermissionError: this process is not root.

    >>> with nk.trace_log(prefix="filter:", timeout=1.0) as log:  # doctest: +SKIP
    ...     ns.run(["ping", "-c1", "fd00::1"])
    ...     for line in log:
    ...         print(line.task, line.text)
    """
    return TraceLog(expect(prefix, str, "prefix"), expect_timeout(timeout))


def parse(chunk: bytes, clock_offset_ns: int = 0) -> tuple[list[TraceLine], int]:
    """The lines in what one read of a trace pipe gave, and how many the kernel says were lost.

    A read gives whole entries. What is no beginning of one goes on with the entry before: a text can hold newlines.
    """
    entries: list[bytes] = []
    lost = 0
    for line in chunk.split(b"\n"):
        if re.match(_LINE, line):
            entries.append(line)
        elif found := re.match(_LOST, line):
            lost += int(found[1])
        elif entries:
            entries[-1] += b"\n" + line
    return [_parse_entry(entry, clock_offset_ns) for entry in entries], lost


def _parse_entry(entry: bytes, clock_offset_ns: int) -> TraceLine:
    match = re.match(_LINE, entry)
    assert match is not None
    task, pid, cpu, seconds, microseconds, text = match.groups()
    timestamp = int(seconds) * 10**9 + int(microseconds) * 1000 + clock_offset_ns
    words = [each.decode(errors="replace") for each in (task.lstrip(b" "), text.rstrip(b"\n"))]
    return TraceLine(words[0], int(pid), int(cpu), timestamp, words[1])


def _tracefs() -> Path:
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split(" ")
        if kind == "tracefs":
            return Path(place.encode().decode("unicode_escape"))  # a blank is written as \040
    raise FileNotFoundError(
        errno.ENOENT, "open the trace log: tracefs is not mounted: mount -t tracefs tracefs /sys/kernel/tracing"
    )


def _make_instance(tracefs: Path) -> Path:
    instances = tracefs / "instances"
    with _operation("open the trace log"):
        for left in instances.glob(f"{_NAME}-*"):
            if not Path("/proc", left.name.split("-")[2]).exists():
                _remove_instance(left)
        instance = instances / f"{_NAME}-{os.getpid()}-{next(_counter)}"
        instance.mkdir()
    return instance


def _configure(instance: Path) -> None:
    _write(instance / "trace_clock", "mono")
    _write(instance / "buffer_percent", "0")  # wake at the first line, not when half of the buffer is full
    for option in (*_OPTIONS, *(f"no{option}" for option in _NOT_OPTIONS)):
        with contextlib.suppress(OSError):  # not every kernel has all
            _write(instance / "trace_options", option)


def _write(path: Path, text: str) -> None:
    fd = _open(path, os.O_WRONLY)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _open(path: Path, flags: int) -> int:
    with _operation("open the trace log"):
        return os.open(path, flags | os.O_CLOEXEC)


@contextlib.contextmanager
def _operation(name: str) -> Iterator[None]:
    """Give an OSError its operation, and advice."""
    try:
        yield
    except OSError as error:
        advice = " (tracefs belongs to root)" if isinstance(error, PermissionError) else ""
        raise OSError(error.errno, f"{name}: {error.strerror}{advice}", error.filename) from None


def _remove_instance(instance: Path) -> None:
    with contextlib.suppress(OSError):  # somebody else reads it, or was faster
        instance.rmdir()


def _close(pipe: int, wake: int, reading: threading.Lock, instance: Path) -> None:
    os.eventfd_write(wake, 1)
    with reading:
        os.close(pipe)
        os.close(wake)
    _remove_instance(instance)
