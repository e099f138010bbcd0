# SPDX-License-Identifier: MIT
"""What an ended process of this package left behind and nobody uses any more.

The rule errs on the side of leaving things. A pair is an orphan if

- both of its ends have the alias that its maker gave them. A pair with another alias belongs to somebody;
- its maker and all processes that were forked from it have ended (owner.py): a daemon's child goes on with what its
  parent made. One that executed another program, as `subprocess` does, does not count: execve(2) ends its share in the
  claim;
- no program is attached to its netkit hooks nor to the tcx hooks of its ends: otherwise it is being watched or
  filtered, or a link is pinned;
- no end is a port of a bridge, a bond or the like: otherwise somebody put it into a network;
- no process lives in a network namespace of its ends, except the caller's own: otherwise a container uses it.

A named namespace is an orphan if its maker, which the alias of its loopback device names, has ended likewise, no other
process lives in it or holds it open, it has no other name, which somebody gave it, and it has no device that others
would lose: a physical one, or one whose other end is elsewhere.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from netkit_bpf._core import DeviceInfo, device_list
from netkit_bpf.bpf.hook import Hook
from netkit_bpf.devices.device import Device, find_device, other_end
from netkit_bpf.devices.netns import NetNS
from netkit_bpf.devices.owner import NO_CLAIM, Owner
from netkit_bpf.enums import Direction, Side
from netkit_bpf.errors import NotSupportedError

_LOOPBACK = 1  # LOOPBACK_IFINDEX


class Orphan(NamedTuple):
    """A netkit device, or a named namespace, that was left behind.

    Attributes:
        name: of the device (the primary of its pair, or the peer if the primary is out of reach), or of the namespace.
        ifindex: the device's number; None for a namespace.
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
    """The orphans among the netkit devices in a namespace; if both ends of a pair are in it, only the primary."""
    devices = {info.ifindex: info for info in device_list(netns._netlink(), "netkit")}
    found = []
    for info in devices.values():
        if info.link_netnsid is None and not info.primary and info.link in devices:
            continue  # goes with its primary
        if owner := gone_owner(info, netns, inhabited):
            found.append(Orphan(info.name, info.ifindex, netns, owner.pid))
    return found


def gone_owner(info: DeviceInfo, netns: NetNS, inhabited: Inhabited) -> Owner | None:
    """The maker of a netkit device, if the device is an orphan; None otherwise."""
    return Owner.of(info.alias) if not why_kept(info, netns, inhabited) else None


def why_kept(info: DeviceInfo, netns: NetNS, inhabited: Inhabited) -> str:
    """Why a netkit device is not an orphan, as a phrase that follows its name; empty if it is one."""
    owner = Owner.of(info.alias)
    if owner is None:
        return "belongs to somebody else, or was given another alias"
    if not owner.has_ended():
        return f"was made by process {owner.pid}{owner.called()}, which has not ended as far as is known here"
    if reason := _use_of(info, netns, owner, inhabited):
        return f"was made by process {owner.pid}, which has ended, but {reason}"
    return ""


def _use_of(info: DeviceInfo, netns: NetNS, owner: Owner, inhabited: Inhabited) -> str:
    if owner.claim == NO_CLAIM:
        return "it could not say so for its forks, without root's rights: whether one goes on with it cannot be told"
    if not owner.is_gone():
        return "a process that was forked from it may go on with it"
    if inhabited.has(netns):
        return "a process lives in its network namespace"
    ends = [Device._of(info, netns)]
    try:
        if info.link:  # not a single device
            far = other_end(info, netns)
            if far is None:
                return "its other end is in a network namespace that has no name and no process here"
            if far.alias != info.alias:
                return "its other end has another alias"
            if inhabited.has(far.netns):
                return "a process lives in the network namespace of its other end"
            ends.append(far)
        primary = ends[0 if info.primary else -1]
        if (info.link and any(Hook(primary, side).programs for side in Side)) or any(map(_has_tcx_program, ends)):
            return "a program is attached to it"
        if any(end._read().master for end in ends):
            return "it is a port of a bridge or of another device"
    except OSError as error:
        return f"it cannot be examined: {error.strerror}"  # gone meanwhile, or access denied
    return ""


def _has_tcx_program(device: Device) -> bool:
    try:
        return any(device.hook(direction).programs for direction in Direction)
    except NotSupportedError:  # the kernel was built without them
        return False


def devices_of(owner: Owner, netns: NetNS) -> Iterator[str]:
    """Names of the netkit devices in a namespace whose alias says that this process made them."""
    for info in device_list(netns._netlink(), "netkit"):
        if Owner.of(info.alias) == owner:
            yield info.name


def namespaces_of(owner: Owner, but: NetNS) -> Iterator[str]:
    """Names of the named namespaces whose loopback device says that this process made them."""
    for netns in named_namespaces(but):
        with netns, contextlib.suppress(OSError):  # deleted meanwhile, or not ours to enter
            if Owner.of(find_device(_LOOPBACK, netns).alias) == owner:
                yield netns.name or ""


def orphaned_namespaces(but: NetNS, inhabited: Inhabited) -> Iterator[Orphan]:
    """The orphans among the named namespaces."""
    names = Counter(map(_inode, _names()))
    for netns in named_namespaces(but):
        if names[netns.inode] > 1:
            continue
        try:
            owner = Owner.of(find_device(_LOOPBACK, netns).alias)
            if owner and owner.is_gone() and not inhabited.has(netns) and not _is_used(netns, inhabited):
                yield Orphan(netns.name or "", None, netns, owner.pid)
        except OSError:
            continue  # deleted meanwhile, or not ours to enter


def named_namespaces(but: NetNS) -> Iterator[NetNS]:
    """All namespaces under /run/netns that can be opened."""
    for path in _names():
        try:
            found = NetNS.open(path.name)
        except (OSError, ValueError):
            continue  # deleted meanwhile, or an empty file
        if found != but:
            yield found


def _names() -> list[Path]:
    directory = Path("/run/netns")
    return sorted(directory.iterdir()) if directory.is_dir() else []


def out_of_reach() -> list[str]:
    """The names of the namespaces that this process may not enter, without CAP_SYS_ADMIN, nor find orphans in."""
    names = []
    with NetNS.current() as here:
        for netns in named_namespaces(but=here):
            with netns, contextlib.suppress(OSError):  # deleted meanwhile
                try:
                    netns._netlink()
                except PermissionError:
                    names.append(netns.name or "")
    return names


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
    """The network namespaces that other processes live in, except the calling thread's own.

    Processes that this one may not inspect are not seen.
    """

    def __init__(self) -> None:
        self._here = _inode("/proc/thread-self/ns/net")
        self._found: frozenset[int] | None = None
        self._held: frozenset[int] | None = None

    def has(self, netns: NetNS) -> bool:
        """Whether a process lives there."""
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
                # A namespace that was opened by its name is shown by its name.
                if os.readlink(fd).startswith(("net:[", "/")) and (found := fd.stat()).st_dev == device:
                    yield found.st_ino
            except OSError:
                continue  # closed meanwhile


def _descriptors(process: Path) -> list[Path]:
    try:
        return [*(process / "fd").iterdir()]
    except OSError:
        return []  # it has ended, or belongs to somebody else
