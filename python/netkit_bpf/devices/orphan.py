# SPDX-License-Identifier: MIT
"""What an ended process of this package left behind, and nobody uses any more.

The rule, which errs on the side of leaving things: a pair is an orphan if

- both of its ends have the very alias that its maker gave them. A pair with an alias of somebody's own is somebody's;
- its maker has ended, and so have all processes that were forked from it (owner.py): a daemon's child goes on with
  what its parent made;
- no program is attached to its hooks: somebody watches it or filters with it, or pinned a link;
- nobody lives in a network namespace of its ends, but for the one that this is asked in: a container uses it.

A named namespace is one if its maker, of whom the alias of its loopback device tells, has ended likewise, no other
process lives in it or holds it open, and no device in it is somebody else's to lose: a physical one, or one whose
other end is elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from netkit_bpf._core import DeviceInfo, device_list
from netkit_bpf.bpf.hook import Hook
from netkit_bpf.devices.device import Device, find_device, other_end
from netkit_bpf.devices.netns import NetNS
from netkit_bpf.devices.owner import Owner
from netkit_bpf.enums import Side

_LOOPBACK = 1  # LOOPBACK_IFINDEX


class Orphan(NamedTuple):
    """A netkit device, or a named namespace, that was left behind.

    Attributes:
        name: of the device: the primary of its pair, or the peer of one whose primary is out of reach; or of the
            namespace.
        ifindex: the device's number; None of a namespace.
        netns: the namespace that the device lives in, or that has the name.
        pid: the process that made it.
    """

    name: str
    ifindex: int | None
    netns: NetNS
    pid: int

    def __str__(self) -> str:
        what = self.name
        if self.ifindex is None:
            what = f"network namespace {self.name}"
        elif self.netns.name:
            what += f" in {self.netns.name}"
        return f"{what}, made by process {self.pid}, which has ended"


def orphaned_devices(netns: NetNS, inhabited: Inhabited) -> list[Orphan]:
    """The orphans among the netkit devices in a namespace; of pairs with both ends in it the primaries."""
    devices = {info.ifindex: info for info in device_list(netns._netlink(), "netkit")}
    found = []
    for info in devices.values():
        if info.link_netnsid is None and not info.primary and info.link in devices:
            continue  # goes with its primary
        if owner := gone_owner(info, netns, inhabited):
            found.append(Orphan(info.name, info.ifindex, netns, owner.pid))
    return found


def gone_owner(info: DeviceInfo, netns: NetNS, inhabited: Inhabited) -> Owner | None:
    """Who made a netkit device of which nobody is left that may use it; None of any other."""
    return Owner.of(info.alias) if not why_kept(info, netns, inhabited) else None


def why_kept(info: DeviceInfo, netns: NetNS, inhabited: Inhabited) -> str:
    """Whose a netkit device is, or who may use it, to go on after "it"; empty of an orphan."""
    owner = Owner.of(info.alias)
    if owner is None:
        return "is somebody else's, or was given another alias"
    if not owner.has_ended():
        return f"was made by process {owner.pid}{owner.called()}, which has not ended as far as can be told here"
    if reason := _use_of(info, netns, owner, inhabited):
        return f"was made by process {owner.pid}, which has ended, but {reason}"
    return ""


def _use_of(info: DeviceInfo, netns: NetNS, owner: Owner, inhabited: Inhabited) -> str:
    if not owner.is_gone():
        return "a process that was forked from it may go on with it"
    if inhabited.has(netns):
        return "a process lives in its network namespace"
    if info.link == 0:
        return ""  # a single device, which has no hooks
    near = Device._of(info, netns)
    try:
        far = other_end(info, netns)
        if far is None:
            return "its other end is in a network namespace that has no name and no process here"
        if far.alias != info.alias:
            return "its other end has another alias"
        if inhabited.has(far.netns):
            return "a process lives in the network namespace of its other end"
        primary = near if info.primary else far
        if any(Hook(primary, side).programs for side in Side):
            return "a program is attached to it"
    except OSError as error:
        return f"it cannot be looked at: {error.strerror}"  # gone meanwhile, or not ours
    return ""


def orphaned_namespaces(but: NetNS, inhabited: Inhabited) -> Iterator[Orphan]:
    """The orphans among the named namespaces."""
    for netns in named_namespaces(but):
        try:
            owner = Owner.of(find_device(_LOOPBACK, netns).alias)
            if owner and owner.is_gone() and not inhabited.has(netns) and not _is_used(netns, inhabited):
                yield Orphan(netns.name or "", None, netns, owner.pid)
        except OSError:
            continue  # deleted meanwhile, or not ours to enter


def named_namespaces(but: NetNS) -> Iterator[NetNS]:
    """All under /run/netns that can be opened."""
    directory = Path("/run/netns")
    for path in sorted(directory.iterdir()) if directory.is_dir() else []:
        try:
            found = NetNS.open(path.name)
        except (OSError, ValueError):
            continue  # deleted meanwhile, or an empty file
        if found != but:
            yield found


def _is_used(netns: NetNS, inhabited: Inhabited) -> bool:
    """Whether the namespace is held open elsewhere, or has devices that others would miss."""
    if netns.inode in inhabited.held():
        return True
    for info in device_list(netns._netlink(), ""):
        physical = not info.kind and info.ifindex != _LOOPBACK
        foreign = info.link_netnsid is not None and gone_owner(info, netns, inhabited) is None
        if physical or foreign:
            return True
    return False


class Inhabited:
    """The network namespaces that other processes live in, but for the calling thread's own.

    Processes that may not be looked at are not seen.
    """

    def __init__(self) -> None:
        self._here = _inode("/proc/thread-self/ns/net")
        self._found: frozenset[int] | None = None
        self._held: frozenset[int] | None = None

    def has(self, netns: NetNS) -> bool:
        """Whether somebody lives there."""
        if self._found is None:
            self._found = frozenset(inode for task in _tasks() if (inode := _inode(task / "ns/net")))
        return netns.inode != self._here and netns.inode in self._found

    def held(self) -> frozenset[int]:
        """The namespaces that other processes hold open."""
        if self._held is None:
            self._held = frozenset(_held())
        return self._held


def _processes() -> Iterator[Path]:
    own = str(os.getpid())
    return (path for path in Path("/proc").iterdir() if path.name.isdigit() and path.name != own)


def _tasks() -> Iterator[Path]:
    for process in _processes():
        try:
            yield from (process / "task").iterdir()
        except OSError:
            continue  # it has ended


def _inode(path: str | Path) -> int | None:
    try:
        return Path(path).stat().st_ino
    except OSError:
        return None  # it has ended, or belongs to somebody else


def _held() -> Iterator[int]:
    device = Path("/proc/thread-self/ns/net").stat().st_dev
    for process in _processes():
        for fd in _descriptors(process):
            try:
                # A namespace that was opened by its name is shown by that.
                if os.readlink(fd).startswith(("net:[", "/")) and (found := fd.stat()).st_dev == device:
                    yield found.st_ino
            except OSError:
                continue  # closed meanwhile


def _descriptors(process: Path) -> list[Path]:
    try:
        return [*(process / "fd").iterdir()]
    except OSError:
        return []  # it has ended, or belongs to somebody else
