# SPDX-License-Identifier: MIT
"""Who made a device or a named namespace: the process that its alias names."""

from __future__ import annotations

import functools
import os
import re
from pathlib import Path
from typing import NamedTuple

from netkit_bpf._core import claim_is_free, claim_make

# Compiled on first use: at import it would take as long as a dozen modules of the package.
_ALIAS = (
    r"netkit-bpf pid=(\d{1,10}) start=(\d{1,20}) pidns=(\d{1,20}) timens=(\d{1,20}) claim=(-|[0-9a-f]{16}-[0-9a-f]{16})"
)
NO_CLAIM = "-"


class Owner(NamedTuple):
    """A process, distinguished from all others that had or will have its id.

    Attributes:
        pid: the process id, as the process itself sees it.
        start: when it started, in clock ticks since boot in its time namespace (proc_pid_stat(5), field 22).
        pidns: the number of the PID namespace in which that is its id.
        timens: the number of the time namespace in which that is its start; 0 if the kernel has none.
        claim: the lock that it shares with the processes that it forks (src/base/claim.hpp); "-" if it has none.
    """

    pid: int
    start: int
    pidns: int
    timens: int
    claim: str

    @classmethod
    def current(cls) -> Owner:
        """This process."""
        return _current()

    @classmethod
    def of(cls, alias: str) -> Owner | None:
        """The process that an alias names; None if the alias was not written by this package, or is empty."""
        found = re.fullmatch(_ALIAS, alias)
        if not found:
            return None
        pid, start, pidns, timens = map(int, found.groups()[:4])
        owner = cls(pid, start, pidns, timens, found[5])
        return owner if 0 < owner.pid < 1 << 31 else None

    @property
    def alias(self) -> str:
        """The text for the device."""
        return "netkit-bpf " + " ".join(f"{field}={value}" for field, value in self._asdict().items())

    def called(self) -> str:
        """The name of the running process: " (python3)"; "" if it is unknown."""
        if self == _current():
            return " (this one)"
        try:
            return f" ({Path('/proc', str(self.pid), 'comm').read_text(errors='replace').strip()})"
        except OSError:
            return ""

    def is_gone(self) -> bool:
        """Whether the process and all that it forked have certainly ended; False if that is unknown."""
        return self.has_ended() and claim_is_free(self.claim)

    def has_ended(self) -> bool:
        """Whether the process has certainly ended; False if that is unknown.

        It is unknown for a process in another PID namespace, or in another time namespace, where clocks differ.
        """
        if (self.pidns, self.timens) != (_namespace("pid"), _namespace("time")):
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass  # the process exists and belongs to another user
        if os.readlink("/proc/self") != str(os.getpid()):
            return False  # this /proc speaks of another PID namespace
        try:
            stat = _stat(str(self.pid))
        except ProcessLookupError:
            return True  # just now
        except OSError:
            return False  # hidden from us (proc(5), hidepid)
        # A zombie has ended but was not waited for; while it has other threads, only its first thread has ended.
        return stat.start != self.start or (stat.state in "ZX" and stat.threads <= 1)


@functools.cache
def _current() -> Owner:
    """It never changes while the process lives; a forked child looks again."""
    try:
        claim = claim_make()
    except OSError:  # /run/netkit-bpf belongs to root: what other users make stays until it is deleted
        claim = NO_CLAIM
    return Owner(os.getpid(), _stat("self").start, _namespace("pid"), _namespace("time"), claim)


os.register_at_fork(after_in_child=_current.cache_clear)


class _Stat(NamedTuple):
    """What proc_pid_stat(5) tells of a process."""

    state: str
    threads: int
    start: int


def _stat(process: str) -> _Stat:
    text = Path("/proc", process, "stat").read_text(errors="replace")
    fields = text.rpartition(")")[2].split()  # the name before it may contain anything
    return _Stat(fields[0], int(fields[17]), int(fields[19]))


def _namespace(kind: str) -> int:
    try:
        # "pid:[4026531836]"; the thread's, as the process has none once its first thread has ended
        return int(os.readlink(f"/proc/thread-self/ns/{kind}").partition("[")[2].rstrip("]"))
    except FileNotFoundError:  # built without time namespaces
        return 0
