# SPDX-License-Identifier: MIT
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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from netkit_bpf import NetNS
from netkit_bpf._core import device_list
from netkit_bpf.devices.owner import Owner
from pytest_netkit_bpf.names import prefix

_SYS_BPF = {"x86_64": 321, "aarch64": 280}
_NEXT_ID = {"program": 11, "map": 12, "link": 31}  # BPF_PROG_GET_NEXT_ID and its like, enum bpf_cmd


class Resources(NamedTuple):
    """Sets of names; empty where this process may not look.

    Attributes:
        fds: what this process has open.
        threads: of this process.
        devices: in this thread's network namespace.
        namespaces: that have a name.
        bpf: programs, maps and links of the whole machine.
    """

    fds: frozenset[str]
    threads: frozenset[str]
    devices: frozenset[str]
    namespaces: frozenset[str]
    bpf: frozenset[str]

    @classmethod
    def now(cls) -> Resources:
        """Everything there is, whoever made it: for a test run that has the machine for itself."""
        return cls(
            frozenset(_fds()),
            frozenset(_threads()),
            frozenset(name for _, name in socket.if_nameindex()),
            frozenset(_namespaces()),
            frozenset(f"{kind} {number}" for kind in _NEXT_ID for number in _bpf_ids(kind)),
        )

    @classmethod
    def own(cls) -> Resources:
        """What this process made with netkit_bpf: for a test run beside others, and tests that do other things too.

        Devices are seen unless they have an alias of their maker's choice, named namespaces if `names` named them.
        """
        return cls(
            frozenset(fd for fd in _fds() if "-> net:[" in fd or "-> anon_inode:bpf" in fd),
            frozenset(thread for thread in _threads() if " netkit-" in thread),
            frozenset(_own_devices()),
            frozenset(name for name in _namespaces() if name.startswith(prefix())),
            frozenset(),
        )

    def more_than(self, before: Resources) -> list[str]:
        """What is there now and was not before."""
        return sorted(name for now, then in zip(self, before, strict=True) for name in now - then)

    def wait_until_back(self, seconds: float = 5.0, look: Callable[[], Resources] | None = None) -> list[str]:
        """What remains beyond these resources, as `look` sees it (by default `now`).

        The kernel frees BPF objects and devices in its own time, Python objects in cycles in its.
        """
        look = look or Resources.now
        end = time.monotonic() + seconds
        while left := look().more_than(self):
            if time.monotonic() > end:
                return left
            gc.collect()
            time.sleep(0.02)
        return []


def _fds() -> Iterator[str]:
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the listing's own
            yield f"{fd} -> {os.readlink(f'/proc/self/fd/{fd}')}"


def _threads() -> Iterator[str]:
    for number in os.listdir("/proc/self/task"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            yield f"thread {number} {Path('/proc/self/task', number, 'comm').read_text().strip()}"


def _own_devices() -> Iterator[str]:
    """Devices in this thread's namespace that say that this process made them."""
    me = Owner.current()
    with NetNS.current() as here:
        for info in device_list(here._netlink(), "netkit"):
            if Owner.of(info.alias) == me:
                yield info.name


def _namespaces() -> list[str]:
    return os.listdir("/run/netns") if Path("/run/netns").is_dir() else []


def _bpf_ids(kind: str) -> Iterator[int]:
    libc = ctypes.CDLL(None, use_errno=True)
    number = 0
    while True:
        attributes = ctypes.create_string_buffer(struct.pack("=III", number, 0, 0), 12)
        if libc.syscall(_SYS_BPF[platform.machine()], _NEXT_ID[kind], attributes, len(attributes)) != 0:
            return
        _, number, _ = struct.unpack("=III", attributes.raw)
        yield number
