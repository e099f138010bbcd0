# SPDX-License-Identifier: MIT
"""Changes of the devices of a pair: rtnetlink(7), groups RTNLGRP_LINK and RTNLGRP_NSID."""

from __future__ import annotations

import contextlib
from typing import NamedTuple

from netkit_bpf._core import Change, PairWatch
from netkit_bpf.devices.device import Device
from netkit_bpf.devices.netns import NetNS, find_netns
from netkit_bpf.enums import ChangeKind, Side
from netkit_bpf.internal.arguments import expect
from netkit_bpf.internal.event_stream import EventStream


class DeviceChange(NamedTuple):
    """Something that happened to one end of a pair.

    Attributes:
        side: which end.
        kind: "up", "down", "renamed", "moved", "deleted" or "policy". A change of either side's policy is one of the
            primary, by which the kernel changes both; the pair tells the new ones.
        name: the device's name, after the change.
        ifindex: its number, after the change.
        netns: where it was moved to; None for other changes, or if that namespace cannot be found because it has no
            name and no process here.
    """

    side: Side
    kind: ChangeKind
    name: str
    ifindex: int
    netns: NetNS | None = None

    def __str__(self) -> str:
        return f"[{self.side}] {self.name} {self.kind}"


class Watch(EventStream[DeviceChange]):
    """Reports changes of the ends of a pair from its construction on, made by any process: `DeviceChange`s.

    Made by `NetkitPair.watch`. `read`, `events` and `async for` are those of a `Monitor`; they also end once both
    ends are deleted. A moved end is followed if its new namespace can be found. The watch does not keep the namespaces
    of the ends alive. Any thread may read, and each change goes to one reader. Any thread or signal handler may close
    it, which wakes the readers. A forked child cannot use it.
    """

    _called = "the watch"

    def __init__(self, primary: Device, peer: Device | None) -> None:
        super().__init__()
        expect(primary, Device, "primary", "NetkitPair.watch() makes a watch")
        ends = (None if end is None else (end.netns._open(), end._ref()) for end in (primary, peer))
        self._core: PairWatch | None = PairWatch(*ends)

    def _take(self, end: float) -> DeviceChange | None:  # noqa: ARG002 - it never searches for long
        core = self._open()
        change = core.next()
        return None if change is None else self._event(core, change)

    def _is_over(self) -> bool:
        return self._open().ended()

    def _descriptor(self) -> int:
        return self._open().fileno()

    def _wake(self) -> None:
        self._open().wake()

    def _let_go(self) -> None:
        self._core = None

    def _open(self) -> PairWatch:
        core = self._core  # another thread may close it
        if core is None:
            raise ValueError("the watch is closed")
        return core

    def _event(self, core: PairWatch, change: Change) -> DeviceChange:
        netns = None if change.nsid is None else self._follow(core, change.side, change.nsid)
        return DeviceChange(
            Side.from_number(change.side), ChangeKind.from_number(change.kind), change.name, change.ifindex, netns
        )

    def _follow(self, core: PairWatch, side: int, nsid: int) -> NetNS | None:
        with contextlib.suppress(OSError):  # gone meanwhile, or access denied
            netns = find_netns(lambda space: core.is_destination(side, nsid, space))
            if netns is not None:
                core.follow(side, netns._open())
            return netns
        return None
