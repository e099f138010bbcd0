# SPDX-License-Identifier: MIT
"""Devices whose maker has ended without deleting them: killed, or crashed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from netkit_bpf._core import device_delete, device_list
from netkit_bpf.devices.netns import NetNS
from netkit_bpf.devices.owner import Owner
from netkit_bpf.internal.arguments import expect


class Orphan(NamedTuple):
    """A netkit device whose maker has ended.

    Attributes:
        name: of the device: the primary of its pair, or the peer of one whose primary is out of reach.
        ifindex: its number.
        netns: the namespace that it lives in.
        pid: the process that made it.
    """

    name: str
    ifindex: int
    netns: NetNS
    pid: int

    def __str__(self) -> str:
        where = f" in {self.netns.name}" if self.netns.name else ""
        return f"{self.name}{where}, made by process {self.pid}, which has ended"


def orphans(netns: NetNS | None = None) -> list[Orphan]:
    """Find the netkit devices that `reap` would remove.

    A device counts if its alias says that this package made it, in a process that has ended for sure: neither a
    stranger's device, nor one with an alias of its maker's own choice, nor one whose maker ran in another PID or
    time namespace, of whose processes nothing can be known here.

    Args:
        netns: where to look; if not given, in the calling thread's namespace and in all that have a name.

    Raises:
        PermissionError: a namespace was given and may not be entered: CAP_SYS_ADMIN is missing.
    """
    if netns is not None:
        return _in(expect(netns, NetNS, "netns"))
    here = NetNS.current()
    found = _in(here)
    for other in _named(but=here):
        try:
            found += _in(other)
        except OSError:
            continue  # a name without a namespace, deleted meanwhile, or not ours to enter
    return found


def reap(netns: NetNS | None = None) -> list[Orphan]:
    """Remove the netkit devices whose maker has ended, and return them. Of each pair both ends go.

    What it takes for one, and where it looks, is told at `orphans`. Named namespaces stay: they do not say who made
    them. Unnamed ones, and what lives in them, end with their process anyway.

    Raises:
        PermissionError: CAP_NET_ADMIN is missing in a device's namespace.

    >>> for orphan in reap():  # doctest: +SKIP
    ...     print("removed", orphan)
    """
    return [
        orphan
        for orphan in orphans(netns)
        if device_delete(orphan.netns._netlink(), (orphan.ifindex, orphan.name))  # not gone by itself
    ]


def _in(netns: NetNS) -> list[Orphan]:
    devices = {info.ifindex: info for info in device_list(netns._netlink(), "netkit")}
    found = []
    for info in devices.values():
        if info.link_netnsid is None and not info.primary and info.link in devices:
            continue  # goes with its primary
        owner = Owner.of(info.alias)
        if owner and owner.has_ended():
            found.append(Orphan(info.name, info.ifindex, netns, owner.pid))
    return found


def _named(but: NetNS) -> Iterator[NetNS]:
    directory = Path("/run/netns")
    for path in sorted(directory.iterdir()) if directory.is_dir() else []:
        try:
            found = NetNS.open(path.name)
        except (OSError, ValueError):
            continue  # deleted meanwhile, or an empty file
        if found != but:
            yield found
