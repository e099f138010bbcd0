# SPDX-License-Identifier: MIT
"""What a process and its kernel hold, for a comparison before and after a test."""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from netkit_bpf import NetNS
from netkit_bpf.devices.orphan import devices_of, namespaces_of
from netkit_bpf.devices.owner import Owner
from netkit_bpf.internal.resource import what_is_held
from pytest_netkit_bpf import roots

# The thread of the memory allocator that pyarrow and polars bring along, which starts it at any time.
_ALLOCATORS = "jemalloc_bg_thd"


# Of each check that goes on, innermost last, as pytester runs tests in a test: what it does not count.
_checks: list[list[Resources]] = []


@contextlib.contextmanager
def checked() -> Iterator[Callable[[], list[str]]]:
    """Check a test: the function that is yielded waits a while, and says what the test left behind."""
    known = [Resources.own()]
    _checks.append(known)
    try:
        yield lambda: Resources.of_all(known).wait_until_back(1.0, look=Resources.own)
    finally:
        _checks.pop()


@contextlib.contextmanager
def lasting() -> Iterator[None]:
    """What is made inside is for other tests too: the test that is the first to ask for it does not leave it behind."""
    before = Resources.own() if _checks else None
    yield
    if before is not None:
        _checks[-1].append(Resources.own().beyond(before))


class Resources(NamedTuple):
    """Sets of names; empty where this process has no access.

    Attributes:
        fds: what this process has open.
        threads: of this process.
        processes: that this one started, whether or not they have ended.
        devices: in this thread's network namespace.
        namespaces: that have a name.
        mounts: in this process's mount namespace.
        objects: of netkit_bpf that were not closed, by the line that made them.
        bpf: programs, maps and links held by this process and those that it started, pins, and programs on hooks.
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

        Devices, names, mounts and pins are counted only in namespaces of this test run, not in the machine's own. So
        whatever else the machine does meanwhile does not count.
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
        """What this process made with netkit_bpf: for test runs beside others, and tests that also do other things.

        Devices and named namespaces count unless their maker chose the alias.
        """
        return cls(
            fds=frozenset(fd for fd in _fds() if "-> net:[" in fd or "-> anon_inode:bpf" in fd),
            threads=frozenset(thread for thread in _threads() if " netkit-" in thread),
            devices=frozenset(_own_devices()),
            namespaces=frozenset(_own_namespaces()),
            objects=frozenset(_objects()),
        )

    @classmethod
    def of_all(cls, parts: Iterable[Resources]) -> Resources:
        """Those of all parts."""
        return cls(*(frozenset().union(*names) for names in zip(*parts, strict=True)))

    def beyond(self, before: Resources) -> Resources:
        """Those that were not in `before`."""
        return Resources(*(now - then for now, then in zip(self, before, strict=True)))

    def more_than(self, before: Resources) -> list[str]:
        """What is here now and was not in `before`.

        If objects are reported, the descriptors and threads that they hold are not.
        """
        more = self.beyond(before)
        if more.objects:
            more = more._replace(fds=frozenset(), threads=frozenset())
        return sorted(name for names in more for name in names)

    def wait_until_back(self, seconds: float = 5.0, look: Callable[[], Resources] | None = None) -> list[str]:
        """What remains beyond these resources, as `look` sees it (by default `now`).

        The kernel frees BPF objects and devices with a delay, and so does Python with objects in cycles.
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
            if name != _ALLOCATORS:
                yield f"thread {number} {name}"


def _processes(numbers: Iterable[int]) -> Iterator[str]:
    for number in numbers:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            yield f"process {number} {Path('/proc', str(number), 'comm').read_text(errors='replace').strip()}"


def _own_devices() -> list[str]:
    with NetNS.current() as here:
        return [*devices_of(Owner.current(), here)]


def _own_namespaces() -> list[str]:
    with NetNS.current() as here:
        return [f"network namespace {name}" for name in namespaces_of(Owner.current(), but=here)]


def _objects() -> Iterator[str]:
    """Searches all Python objects, so that the package needs no list of them."""
    for found in gc.get_objects():
        if held := what_is_held(found):
            yield held


def _namespaces() -> list[str]:
    return os.listdir("/run/netns") if Path("/run/netns").is_dir() else []
