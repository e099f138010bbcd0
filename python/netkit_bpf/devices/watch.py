# SPDX-License-Identifier: MIT
"""Changes of the devices of a pair: rtnetlink(7), groups RTNLGRP_LINK and RTNLGRP_NSID."""

from __future__ import annotations

import contextlib
from typing import NamedTuple

from netkit_bpf._core import Change, PairWatch
from netkit_bpf.devices.device import Device, find_device, other_end
from netkit_bpf.devices.netns import NetNS, find_netns
from netkit_bpf.enums import ChangeKind, Side
from netkit_bpf.internal.arguments import expect
from netkit_bpf.internal.event_stream import EventStream

_TRIES = 3


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
    ends are deleted. A moved end is followed if its new namespace can be found. One that moved on before that was read
    is told once, with the place where it is then, if the other end is watched and did not move meanwhile; it is
    followed unless its number is another one there. The watch does not keep the namespaces of the ends alive. Any
    thread may read, and each change goes to one reader. Any thread or signal handler may close it, which wakes the
    readers. A forked child cannot use it.
    """

    _called = "the watch"

    def __init__(self, primary: Device, peer: Device | None) -> None:
        super().__init__()
        expect(primary, Device, "primary", "NetkitPair.watch() makes a watch")
        ends = (None if end is None else (end.netns._open(), end._ref()) for end in (primary, peer))
        self._core: PairWatch | None = PairWatch(*ends)
        self._places = [None if end is None else (end.netns._identity, end.ifindex) for end in (primary, peer)]

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
        side, ifindex = Side.from_number(change.side), change.ifindex
        if change.nsid is None:
            return DeviceChange(side, ChangeKind.from_number(change.kind), change.name, ifindex)
        netns = None
        with contextlib.suppress(OSError):  # gone meanwhile, or access denied
            netns, ifindex = self._find(core, change, change.nsid)
        self._places[change.side] = None if netns is None else (netns._identity, ifindex)
        if netns is not None and ifindex == change.ifindex:
            with contextlib.suppress(OSError):  # likewise
                core.follow(change.side, netns._open())
        return DeviceChange(side, ChangeKind.from_number(change.kind), change.name, ifindex, netns)

    def _find(self, core: PairWatch, change: Change, nsid: int) -> tuple[NetNS | None, int]:
        """Where an end is that was moved, and its number there."""
        end = self._seen_from_the_other_end(change.side)
        if end is not None:
            return end.netns, end.ifindex
        return find_netns(lambda space: core.is_destination(change.side, nsid, space)), change.ifindex

    def _seen_from_the_other_end(self, side: int) -> Device | None:
        """The end by what its other end says: it may have moved on since, even back. None if that one is not known."""
        place = self._places[1 - side]
        if place is None:
            return None
        identity, ifindex = place
        for _ in range(_TRIES):
            with contextlib.suppress(OSError):  # moved on meanwhile; or that one was moved too, or access denied
                netns = find_netns(lambda space: space.identity() == identity)
                return None if netns is None else other_end(find_device(ifindex, netns), netns)
        return None
