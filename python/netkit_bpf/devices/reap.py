# SPDX-License-Identifier: MIT
"""Removing what processes left behind that have ended without deleting it: killed, or crashed."""

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

    A device counts if both ends of its pair have the alias that this package gave them, in a process that has ended
    for sure, and nobody is left who may use it: no process that was forked from its maker, no program on its hooks, no
    process in the namespace of an end, but for the caller's own. A named namespace counts likewise, if nobody lives in
    it or holds it open, and no device in it belongs to somebody else. So neither a stranger's device counts, nor one
    that was given another alias, nor one whose maker ran in another PID, time or mount namespace or without root's
    rights, of whom nothing can be known here.

    Args:
        netns: where to look for devices; if not given, in the calling thread's namespace and in all that have a name,
            of which those that were left behind are found too.

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
    """Remove the netkit devices and named namespaces whose maker has ended, and return them. Of each pair both ends go.

    What it takes for one, and where it looks, is told at `orphans`. Unnamed namespaces, and what lives in them, end
    with their process anyway.

    Raises:
        PermissionError: CAP_NET_ADMIN is missing in a device's namespace, or CAP_SYS_ADMIN to take a name away.

    >>> for orphan in reap():  # doctest: +SKIP
    ...     print("removed", orphan)
    """
    return [orphan for orphan in orphans(netns) if _remove(orphan)]


def _remove(orphan: Orphan) -> bool:
    """Whether it was still there."""
    if orphan.ifindex is None:
        orphan.netns.delete()
        return True
    return device_delete(orphan.netns._netlink(), (orphan.ifindex, orphan.name))


def explain_taken(error: FileExistsError, names: Iterable[tuple[str, NetNS]]) -> FileExistsError:
    """The error, and for each of the names that is taken whose it is and what to do."""
    inhabited = Inhabited()
    told = [_explain(info, netns, inhabited) for info, netns in _found(names)]
    return FileExistsError(error.errno, ": ".join([str(error.strerror), *told]))


def in_kernels_words(error: FileExistsError) -> OSError:
    """What `explain_taken` was given: without advice for those who write Python."""
    return error.__context__ if isinstance(error.__context__, FileExistsError) else error


def remove_orphans(names: Iterable[tuple[str, NetNS]]) -> None:
    """Delete the devices of these names that were left behind, which nobody uses; leave all others."""
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
    take = f"NetkitPair.open({name!r}) takes it as it is"
    if reason := why_kept(info, netns, inhabited):
        return f"{name} {reason}: {take}, or choose another name"
    return f"{name} was left by a process that has ended: nk.reap() removes it, replace=True takes its place, {take}"
