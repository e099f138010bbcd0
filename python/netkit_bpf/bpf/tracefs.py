# SPDX-License-Identifier: MIT
"""An instance of tracefs, which has what programs print and nothing else: Documentation/trace/ftrace.rst."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from netkit_bpf.internal.proc import mounts

_NAME = "netkit-bpf"  # of an instance: this, the process's id and a number
_EVENT = "events/bpf_trace/bpf_trace_printk/enable"
# What another user of tracefs may have chosen for all instances, and what would change the lines.
_OPTIONS = ("context-info", "irq-info", "record-cmd", "overwrite")
_NOT_OPTIONS = (
    *("annotate", "bin", "fields", "hex", "latency-format", "printk-msg-only", "raw", "record-tgid", "verbose"),
    *("stacktrace", "userstacktrace"),
)
_LONGEST = 8192  # bytes of an entry; a text has 1024 at most (kernel/trace/bpf_trace.c)
_LOCKDOWN = Path("/sys/kernel/security/lockdown")
# Before an entry, where some were overwritten. An entry itself begins with a blank: a task's name has 15 bytes at most,
# is padded to 16 columns (kernel/trace/trace_output.c), and may hold anything, newlines too. Both are compiled when
# they are first used: importing is quick.
_LOST = rb"CPU:\d+ \[LOST (?:(\d+) )?EVENTS\]\n"
_HEAD = rb"(?s:([ ].{15})-(\d+) +\[(\d+)\] \S+ +(\d+)\.(\d{6}): bpf_trace_printk: (.*))"

_counter = itertools.count()


class Entry(NamedTuple):
    """One call of bpf_printk(), in the kernel's words. The clock is CLOCK_MONOTONIC outside of time namespaces."""

    task: bytes
    pid: int
    cpu: int
    monotonic_ns: int
    text: bytes


class Instance:
    """An instance of its own, from which one thread at a time reads. It stays in tracefs until it is closed."""

    def __init__(self) -> None:
        self._process = os.getpid()
        self._directory: Path | None = None
        self._fds: list[int] = []
        self._parts = bytearray(1), bytearray(_LONGEST)

    def open(self) -> None:
        """Make it. Whatever becomes of this, also if Ctrl-C comes at any point, `close` removes what was made."""
        instances = _tracefs() / "instances"
        with _operation("open the trace log"):
            _sweep(instances)
            for number in _counter:
                self._directory = instances / f"{_NAME}-{self._process}-{number}"
                try:
                    self._directory.mkdir()
                    break
                except FileExistsError:  # of a process that has this id in another PID namespace
                    self._directory = None
        assert self._directory is not None
        _configure(self._directory)
        with _operation("open the trace log"):
            # Descriptors have an owner at once: no Python code runs, and no signal handler, while a list is extended.
            flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
            self._fds.extend(map(os.open, [self._directory / "trace_pipe"], [flags]))
            self._fds.extend(map(os.eventfd, [0], [os.EFD_CLOEXEC | os.EFD_NONBLOCK]))
        import select

        self._ready = select.epoll()
        for fd in self._fds:
            self._ready.register(fd, select.EPOLLIN)
        _write(self._directory / _EVENT, "1")

    def fileno(self) -> int:
        """What is readable while an entry waits, and once it was woken."""
        return self._ready.fileno()

    def wake(self) -> None:
        """Make the descriptor readable for ever."""
        os.eventfd_write(self._fds[1], 1)

    def take(self) -> bytes | None:
        """The next entry, or what the kernel writes in its place; None if there is none yet.

        A text may hold newlines, and after them what looks like another entry, so lines are not what tells entries
        apart. The kernel fills its buffer with whole entries until it has as many bytes as a read wants: one byte
        gives one entry, and the next read has what is left of it (kernel/trace/trace.c, tracing_read_pipe()). readv(2)
        is both reads.
        """
        try:
            size = os.readv(self._fds[0], self._parts)
        except BlockingIOError:
            return None
        first, rest = self._parts
        return bytes(first) + rest[: size - 1] if size else None

    def close(self) -> None:
        """Remove the instance. Idempotent, for any thread and a forked child, which lets its descriptors go alone."""
        while self._fds:
            os.close(self._fds.pop())
        if self._directory is not None and os.getpid() == self._process:
            _remove(self._directory)


def parse(entry: bytes) -> tuple[Entry | None, int]:
    """What an entry says, and how many were lost before it; None if it is no call of bpf_printk()."""
    lost = 0
    while found := re.match(_LOST, entry):
        lost += int(found[1] or 1)  # there are at least that many if the kernel does not know
        entry = entry[found.end() :]
    found = re.fullmatch(_HEAD, entry)
    if found is None:
        return None, lost
    task, pid, cpu, seconds, microseconds, text = found.groups()
    monotonic = int(seconds) * 10**9 + int(microseconds) * 1000
    return Entry(task.lstrip(b" "), int(pid), int(cpu), monotonic, text.rstrip(b"\n")), lost


def _tracefs() -> Path:
    for mount in mounts():
        if mount.kind == "tracefs":
            return mount.target
    raise FileNotFoundError(
        errno.ENOENT, "open the trace log: tracefs is not mounted: mount -t tracefs tracefs /sys/kernel/tracing"
    )


def _sweep(instances: Path) -> None:
    """Remove what killed processes left."""
    for left in instances.glob(f"{_NAME}-*"):
        if not Path("/proc", left.name.removeprefix(f"{_NAME}-").partition("-")[0]).exists():
            _remove(left)


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
        number, text, advice = error.errno, error.strerror, ""
        locked = "the kernel is locked down for confidentiality, which closes tracefs: see kernel_lockdown(7)"
        if _is_locked_down():  # with the option of that name tracefs is empty (fs/tracefs/inode.c)
            number, text, advice = errno.EPERM, os.strerror(errno.EPERM), f" ({locked})"
        elif isinstance(error, PermissionError):
            advice = f" (tracefs belongs to root, or {locked})"
        elif isinstance(error, FileNotFoundError):
            advice = f" (the kernel was built without CONFIG_BPF_EVENTS or without instances, or {locked})"
        raise OSError(number, f"{name}: {text}{advice}", error.filename) from None


def _is_locked_down() -> bool:
    try:
        return "[confidentiality]" in _LOCKDOWN.read_text()
    except OSError:
        return False


def _remove(instance: Path) -> None:
    with contextlib.suppress(OSError):  # somebody else reads it, or was faster
        instance.rmdir()
