# SPDX-License-Identifier: MIT
"""What happens to the devices of a pair: rtnetlink(7), groups RTNLGRP_LINK and RTNLGRP_NSID."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from typing import NamedTuple

from netkit_bpf._core import Change, PairWatch
from netkit_bpf.devices.device import Device
from netkit_bpf.devices.netns import NetNS, find_netns
from netkit_bpf.enums import ChangeKind, Side
from netkit_bpf.internal.arguments import expect_timeout
from netkit_bpf.internal.resource import Closing

_SIDES = (Side.PRIMARY, Side.PEER)
_KINDS = (ChangeKind.UP, ChangeKind.DOWN, ChangeKind.RENAMED, ChangeKind.MOVED, ChangeKind.DELETED)
_SLICE = 0.1  # seconds; signal handlers run in between


class DeviceChange(NamedTuple):
    """Something that happened to one end of a pair.

    Attributes:
        side: which end.
        kind: "up", "down", "renamed", "moved" or "deleted".
        name: the device's name, after the change.
        ifindex: its number, after the change.
        netns: where it was moved to; None for other changes, and where that namespace cannot be found: it has no
            name and no process here.
    """

    side: Side
    kind: ChangeKind
    name: str
    ifindex: int
    netns: NetNS | None = None

    def __str__(self) -> str:
        return f"[{self.side}] {self.name} {self.kind}"


class Watch(Closing):
    """Tells what happens to the ends of a pair from its construction on, whoever does it.

    Made by `NetkitPair.watch`. Iterating gives `DeviceChange`s and ends after `timeout` seconds of silence, on
    `close`, and once both ends are deleted; it can be begun anew. A moved end is followed if its new namespace can be
    found. The watch keeps no namespace alive in which an end lives. One thread at a time may read; any may close,
    which wakes the reader. A forked child cannot use it.
    """

    def __init__(self, primary: Device, peer: Device | None, timeout: float | None) -> None:
        self._timeout = expect_timeout(timeout)
        ends = (None if end is None else (end.netns._open(), end._ref()) for end in (primary, peer))
        core: PairWatch | None = PairWatch(*ends)
        self._core = core
        self._process = os.getpid()

    def read(self, timeout: float | None = None) -> DeviceChange | None:
        """Return the next change; None after `timeout` seconds without one, and where none can come any more.

        A timeout of 0 only looks.

        Raises:
            ValueError: the watch is closed.
        """
        timeout = expect_timeout(timeout)
        core = self._open()
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            change = core.next()
            if change is not None:
                return self._event(core, change)
            left = _SLICE if end is None else min(_SLICE, end - time.monotonic())
            if left <= 0 or core.ended() or self.closed:
                return None
            core.wait(left)

    def __iter__(self) -> Iterator[DeviceChange]:
        self._open()
        while not self.closed and (change := self.read(self._timeout)) is not None:
            yield change

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._core is None

    def close(self) -> None:
        """Stop listening and wake whoever reads. Idempotent."""
        core, self._core = self._core, None
        if core is not None:
            core.wake()

    def _open(self) -> PairWatch:
        core = self._core  # which another thread may let go of
        if core is None:
            raise ValueError("the watch is closed")
        if os.getpid() != self._process:
            raise ValueError("the watch belongs to the process that made it, not to its forked child")
        return core

    def _event(self, core: PairWatch, change: Change) -> DeviceChange:
        netns = None if change.nsid is None else self._follow(core, change.side, change.nsid)
        return DeviceChange(_SIDES[change.side], _KINDS[change.kind], change.name, change.ifindex, netns)

    def _follow(self, core: PairWatch, side: int, nsid: int) -> NetNS | None:
        with contextlib.suppress(OSError):  # what is gone meanwhile, and what we may not look into
            netns = find_netns(lambda space: core.is_destination(side, nsid, space))
            if netns is not None:
                core.follow(side, netns._open())
            return netns
        return None

    def __enter__(self) -> Watch:
        self._open()
        return self

    def __repr__(self) -> str:
        return f"<Watch {'closed' if self.closed else 'open'}>"
