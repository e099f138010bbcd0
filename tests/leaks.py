"""What a process and its kernel hold, to be compared before and after."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import platform
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_SYS_BPF = {"x86_64": 321, "aarch64": 280}[platform.machine()]
_NEXT_ID = {"program": 11, "map": 12, "link": 31}  # BPF_PROG_GET_NEXT_ID and its like, enum bpf_cmd
_libc = ctypes.CDLL(None, use_errno=True)


class Resources(NamedTuple):
    """Sets of names; empty where this process may not look."""

    fds: frozenset[str]
    threads: frozenset[str]
    devices: frozenset[str]
    namespaces: frozenset[str]
    bpf: frozenset[str]

    @classmethod
    def now(cls) -> Resources:
        gc.collect()
        fds = {fd: _target(fd) for fd in os.listdir("/proc/self/fd")}
        return cls(
            frozenset(f"{fd} -> {target}" for fd, target in fds.items() if target is not None),
            frozenset(_threads()),
            frozenset(name for _, name in socket.if_nameindex()),
            frozenset(os.listdir("/run/netns") if Path("/run/netns").is_dir() else []),
            frozenset(f"{kind} {number}" for kind in _NEXT_ID for number in _bpf_ids(kind)),
        )

    def more_than(self, before: Resources) -> list[str]:
        """What is there now and was not before."""
        return sorted(name for now, then in zip(self, before, strict=True) for name in now - then)

    def wait_until_back(self, seconds: float = 5.0) -> list[str]:
        """What remains beyond these resources. The kernel frees BPF objects and devices in its own time."""
        end = time.monotonic() + seconds
        while left := Resources.now().more_than(self):
            if time.monotonic() > end:
                return left
            time.sleep(0.02)
        return []


def _target(fd: str) -> str | None:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except FileNotFoundError:  # the listing's own
        return None


def _threads() -> Iterator[str]:
    for number in os.listdir("/proc/self/task"):
        with contextlib.suppress(FileNotFoundError):  # it has just ended
            yield f"thread {number} {Path('/proc/self/task', number, 'comm').read_text().strip()}"


def _bpf_ids(kind: str) -> list[int]:
    found = []
    attributes = ctypes.create_string_buffer(struct.pack("=III", 0, 0, 0), 12)
    while _libc.syscall(_SYS_BPF, _NEXT_ID[kind], attributes, len(attributes)) == 0:
        _, number, _ = struct.unpack("=III", attributes.raw)
        found.append(number)
        attributes = ctypes.create_string_buffer(struct.pack("=III", number, 0, 0), 12)
    return found
