# SPDX-License-Identifier: MIT
"""What a process and its kernel hold, to be compared before and after."""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from netkit_bpf import Device, NetNS
from netkit_bpf._core import device_list
from netkit_bpf.devices.orphan import named_namespaces
from netkit_bpf.devices.owner import Owner
from netkit_bpf.internal.resource import what_is_held
from pytest_netkit_bpf import roots


class Resources(NamedTuple):
    """Sets of names; empty where this process may not look.

    Attributes:
        fds: what this process has open.
        threads: of this process.
        processes: that this one started, whether or not they have ended.
        devices: in this thread's network namespace.
        namespaces: that have a name.
        mounts: in this process's mount namespace.
        objects: of netkit_bpf that were not closed, by the line that made them.
        bpf: programs, maps and links that this process and those that it started hold, pins, and what is on hooks.
    """

    fds: frozenset[str] = frozenset()
    threads: frozenset[str] = frozenset()
    processes: frozenset[str] = frozenset()
    devices: frozenset[str] = frozenset()
    namespaces: frozenset[str] = frozenset()
    mounts: frozenset[str] = frozenset()
    bpf: frozenset[str] = frozenset()
    objects: frozenset[str] = frozenset()

    @classmethod
    def now(cls) -> Resources:
        """Everything that this process holds, however it was made.

        Devices, names, mounts and pins are seen in namespaces that are not the machine's: there they are this test
        run's. What others on the machine do meanwhile is not seen.
        """
        own_net, own_mounts = roots.is_own("net"), roots.is_own("mnt")
        processes = [*roots.children()]
        bpf = {name for process in (os.getpid(), *processes) for name in roots.held(process)}
        paths = _namespaces_held() | ({"/proc/thread-self/ns/net"} if own_net else set())
        if own_mounts:
            bpf |= {*roots.pinned()}
            paths |= {f"/run/netns/{name}" for name in _namespaces()}
        return cls(
            fds=frozenset(_fds()),
            threads=frozenset(_threads()),
            processes=frozenset(_processes(processes)),
            devices=frozenset(name for _, name in socket.if_nameindex()) if own_net else frozenset(),
            namespaces=frozenset(f"namespace {name}" for name in _namespaces()) if own_mounts else frozenset(),
            mounts=frozenset(f"mount {place} ({number})" for number, place, _ in roots.mounts())
            if own_mounts
            else frozenset(),
            bpf=frozenset({*bpf, *roots.mapped(), *(each for path in paths for each in roots.attached(path))}),
        )

    @classmethod
    def own(cls) -> Resources:
        """What this process made with netkit_bpf: for a test run beside others, and tests that do other things too.

        Devices and named namespaces are seen unless they have an alias of their maker's choice.
        """
        return cls(
            fds=frozenset(fd for fd in _fds() if "-> net:[" in fd or "-> anon_inode:bpf" in fd),
            threads=frozenset(thread for thread in _threads() if " netkit-" in thread),
            devices=frozenset(_own_devices()),
            namespaces=frozenset(_own_namespaces()),
            objects=frozenset(_objects()),
        )

    def more_than(self, before: Resources) -> list[str]:
        """What is there now and was not before.

        Where objects tell it, the descriptors and threads that they hold do not.
        """
        more = Resources(*(now - then for now, then in zip(self, before, strict=True)))
        if more.objects:
            more = more._replace(fds=frozenset(), threads=frozenset())
        return sorted(name for names in more for name in names)

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


def _namespaces_held() -> set[str]:
    """Paths of the network namespaces that this process has open."""
    return {f"/proc/self/fd/{fd.partition(' ')[0]}" for fd in _fds() if " -> net:[" in fd}


def _threads() -> Iterator[str]:
    for number in os.listdir("/proc/self/task"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            name = Path("/proc/self/task", number, "comm").read_text(errors="replace").strip()
            yield f"thread {number} {name}"


def _processes(numbers: Iterable[int]) -> Iterator[str]:
    for number in numbers:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            yield f"process {number} {Path('/proc', str(number), 'comm').read_text(errors='replace').strip()}"


def _own_devices() -> Iterator[str]:
    """Devices in this thread's namespace that say that this process made them."""
    me = Owner.current()
    with NetNS.current() as here:
        for info in device_list(here._netlink(), "netkit"):
            if Owner.of(info.alias) == me:
                yield info.name


def _own_namespaces() -> Iterator[str]:
    """Named namespaces whose loopback device says that this process made them."""
    me = Owner.current()
    with NetNS.current() as here:
        for netns in named_namespaces(but=here):
            with netns, contextlib.suppress(OSError):  # deleted meanwhile, or not ours to enter
                if Owner.of(Device.open("lo", netns).alias) == me:
                    yield f"network namespace {netns.name}"


def _objects() -> Iterator[str]:
    """Found among all objects, so that the package keeps no list of them."""
    for found in gc.get_objects():
        if held := what_is_held(found):
            yield held


def _namespaces() -> list[str]:
    return os.listdir("/run/netns") if Path("/run/netns").is_dir() else []
