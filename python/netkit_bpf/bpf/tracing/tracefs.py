# SPDX-License-Identifier: MIT
"""A tracefs instance with only what programs print: Documentation/trace/ftrace.rst."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import re
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from netkit_bpf.internal.proc import mounts

if TYPE_CHECKING:
    import select

# Instances belong to the whole kernel: each is named after the process, the PID namespace where that is its id, and a
# number. Only a name of exactly this form is ours. It is compiled on first use.
_NAME = r"netkit-bpf-(\d{1,10})-pidns(\d{1,20})-\d+"
_EVENT = "events/bpf_trace/bpf_trace_printk/enable"
# Options that another user of tracefs may have set for all instances, and that would change the lines.
_OPTIONS = ("context-info", "irq-info", "record-cmd", "overwrite")
_NOT_OPTIONS = (
    *("annotate", "bin", "fields", "hex", "latency-format", "printk-msg-only", "raw", "record-tgid", "verbose"),
    *("stacktrace", "userstacktrace"),
)
_LONGEST = 8192  # bytes of an entry; a text has 1024 at most (kernel/trace/bpf_trace.c)
_LOCKDOWN = Path("/sys/kernel/security/lockdown")
# _LOST stands before an entry if some were overwritten. An entry itself begins with a blank: a task's name has at most
# 15 bytes, is padded to 16 columns (kernel/trace/trace_output.c), and may hold anything, even newlines. Both are
# compiled on first use, to keep the import quick.
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
    """A separate instance, read by one thread at a time. It stays in tracefs until it is closed."""

    def __init__(self) -> None:
        self._process = os.getpid()
        self._directory: Path | None = None
        self._fds: list[int] = []
        self._ready: select.epoll | None = None
        self._parts = bytearray(1), bytearray(_LONGEST)

    def open(self) -> None:
        """Make it. Whatever happens, even Ctrl-C at any point, `close` removes what was made."""
        instances = _tracefs() / "instances"
        with _operation("open the trace log"):
            _sweep(instances)
            for number in _counter:
                self._directory = instances / f"netkit-bpf-{self._process}-pidns{_pid_namespace()}-{number}"
                try:
                    self._directory.mkdir()
                    break
                except FileExistsError:  # left by an earlier process of the same id
                    self._directory = None
        assert self._directory is not None
        _configure(self._directory)
        with _operation("open the trace log"):
            # Each descriptor has an owner at once: no Python code and no signal handler runs while a list is extended.
            flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
            self._fds.extend(map(os.open, [self._directory / "trace_pipe"], [flags]))
            self._fds.extend(map(os.eventfd, [0], [os.EFD_CLOEXEC | os.EFD_NONBLOCK]))
        import select

        self._ready = ready = select.epoll()
        for fd in self._fds:
            ready.register(fd, select.EPOLLIN)
        _write(self._directory / _EVENT, "1")

    def fileno(self) -> int:
        """A descriptor that is readable while an entry waits, and after `wake`."""
        assert self._ready is not None
        return self._ready.fileno()

    def wake(self) -> None:
        """Make the descriptor readable for ever."""
        os.eventfd_write(self._fds[1], 1)

    def take(self) -> bytes | None:
        """The next entry, or what the kernel writes in its place; None if there is none yet.

        A text may hold newlines, and after them what looks like another entry, so newlines do not separate entries. The
        kernel fills its buffer with whole entries until it has as many bytes as the read asks for: a read of one byte
        fetches one entry, and the next read returns the rest of it (kernel/trace/trace.c, tracing_read_pipe()).
        readv(2) does both reads.
        """
        try:
            size = os.readv(self._fds[0], self._parts)
        except BlockingIOError:
            return None
        first, rest = self._parts
        return bytes(first) + rest[: size - 1] if size else None

    def close(self) -> None:
        """Remove the instance. Idempotent; any thread may call it. A forked child only closes its descriptors."""
        while self._fds:
            os.close(self._fds.pop())
        if self._ready is not None:
            self._ready.close()
        if self._directory is not None and os.getpid() == self._process:
            _remove(self._directory)


def parse(entry: bytes) -> tuple[Entry | None, int]:
    """The parsed entry, or None if it is not a call of bpf_printk(), and how many were lost before it."""
    lost = 0
    while found := re.match(_LOST, entry):
        lost += int(found[1] or 1)  # at least one, if the kernel does not know the number
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
    """Remove what processes of this PID namespace left that certainly have ended; of others that is unknown."""
    here = _pid_namespace()
    for left in instances.iterdir():
        found = re.fullmatch(_NAME, left.name)
        if found and int(found[2]) == here and _has_ended(int(found[1])):
            _remove(left)


def _pid_namespace() -> int:
    # The thread's: the process has none once its first thread has ended.
    return Path("/proc/thread-self/ns/pid").stat().st_ino


def _has_ended(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):  # another user's; no id at all
        pass
    return False


def _configure(instance: Path) -> None:
    _write(instance / "trace_clock", "mono")
    _write(instance / "buffer_percent", "0")  # wake at the first line, not when half of the buffer is full
    for option in (*_OPTIONS, *(f"no{option}" for option in _NOT_OPTIONS)):
        with contextlib.suppress(OSError):  # not every kernel has all
            _write(instance / "trace_options", option)


def _write(path: Path, text: str) -> None:
    # A file object owns its descriptor at once, even if Ctrl-C comes: a descriptor left open would keep the instance.
    with _operation("open the trace log"), FileIO(path, "r+") as file:
        file.write(text.encode())


@contextlib.contextmanager
def _operation(name: str) -> Iterator[None]:
    """Add the operation and advice to an OSError."""
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
    with contextlib.suppress(OSError):  # in use, or removed by another process
        instance.rmdir()
