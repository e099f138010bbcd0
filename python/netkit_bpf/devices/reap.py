# SPDX-License-Identifier: MIT
"""Removing what killed or crashed processes left behind."""

from __future__ import annotations

from collections.abc import Iterable

from netkit_bpf._core import DeviceInfo, device_delete
from netkit_bpf.devices.device import find_device
from netkit_bpf.devices.netns import NetNS
from netkit_bpf.devices.orphan import (
    Inhabited,
    Orphan,
    named_namespaces,
    orphaned_devices,
    orphaned_namespaces,
    why_kept,
)
from netkit_bpf.internal.arguments import expect


def orphans(netns: NetNS | None = None) -> list[Orphan]:
    """Find the netkit devices and named namespaces that `reap` would remove.

    A device is an orphan if both ends of its pair have the alias that this package gave them, the process that made it
    has certainly ended, and nothing is left that may use it: no process that was forked from its maker, no program on
    its hooks or on the tcx hooks of an end, no bridge or other device that an end is a port of, and no process in the
    namespace of an end, except the caller's own. A fork that executes another program (`subprocess`) does not count
    from then on, but for the namespace in which it lives. A named namespace is an orphan under the same rules, if no
    process lives in it or holds it open, it has no second name, and no device in it belongs to somebody else. A device
    that this package did not make is not an orphan, nor one that was given another alias, nor one whose maker ran in
    another PID, time or mount namespace or without root's rights: whether such a process has ended is unknown here.

    Args:
        netns: where to look for devices; by default in the calling thread's namespace and in all named ones. By default
            named namespaces that were left behind are found too.

    Raises:
        PermissionError: a namespace was given and may not be entered: CAP_SYS_ADMIN is missing.
    """
    inhabited = Inhabited()
    if netns is not None:
        return orphaned_devices(expect(netns, NetNS, "netns"), inhabited)
    here = NetNS.current()
    found = orphaned_devices(here, inhabited)
    for other in named_namespaces(but=here):
        try:
            found += orphaned_devices(other, inhabited)
        except OSError:
            continue  # deleted meanwhile, or not ours to enter
    return [*found, *orphaned_namespaces(here, inhabited)]


def reap(netns: NetNS | None = None) -> list[Orphan]:
    """Remove the netkit devices (both ends) and named namespaces whose maker has ended, and return them.

    See `orphans` for what counts as one, and where it looks. Unnamed namespaces, and the devices in them, end with
    their process anyway.

    Raises:
        PermissionError: CAP_NET_ADMIN is missing in a device's namespace, or CAP_SYS_ADMIN to remove a name.

    >>> for orphan in reap():  # doctest: +SKIP
    ...     print("removed", orphan)
    """
    return [orphan for orphan in orphans(netns) if _remove(orphan)]


def _remove(orphan: Orphan) -> bool:
    """Remove it; False if it was gone already."""
    if orphan.ifindex is None:
        return orphan.netns._delete()
    return device_delete(orphan.netns._netlink(), (orphan.ifindex, orphan.name))


def explain_taken(error: FileExistsError, names: Iterable[tuple[str, NetNS]]) -> FileExistsError:
    """The error, extended for each taken name by its owner and what to do."""
    inhabited = Inhabited()
    told = [_explain(info, netns, inhabited) for info, netns in _found(names)]
    return FileExistsError(error.errno, ": ".join([str(error.strerror), *told]))


def in_kernels_words(error: FileExistsError) -> OSError:
    """The error that `explain_taken` was given, without the advice for Python programs."""
    return error.__context__ if isinstance(error.__context__, FileExistsError) else error


def remove_orphans(names: Iterable[tuple[str, NetNS]]) -> None:
    """Delete the devices of these names that are orphans; leave all others."""
    inhabited = Inhabited()
    for info, netns in _found(names):
        if info.kind == "netkit" and not why_kept(info, netns, inhabited):
            device_delete(netns._netlink(), (info.ifindex, info.name))


def _found(names: Iterable[tuple[str, NetNS]]) -> Iterable[tuple[DeviceInfo, NetNS]]:
    for name, netns in names:
        try:
            yield find_device(name, netns), netns
        except OSError:
            continue  # this one is free


def _explain(info: DeviceInfo, netns: NetNS, inhabited: Inhabited) -> str:
    name = info.name
    if info.kind != "netkit":
        return f"{name} is a {info.kind or 'physical'} device: choose another name"
    take = f"NetkitPair.open({name!r}) opens it as it is"
    if reason := why_kept(info, netns, inhabited):
        return f"{name} {reason}: {take}, or choose another name"
    return f"{name} was left by a process that has ended: nk.reap() removes it, replace=True replaces it, {take}"
