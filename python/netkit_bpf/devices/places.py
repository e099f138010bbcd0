# SPDX-License-Identifier: MIT
"""The network namespaces of what lives in them: processes, containers, cgroups."""

from __future__ import annotations

import os

from netkit_bpf.devices.netns import NetNS
from netkit_bpf.internal.containers import cgroup_of, namespaces_in, namespaces_of


def places_of(which: int | str | os.PathLike[str] | NetNS) -> tuple[str, list[NetNS]]:
    """The namespaces that something lives in, and what it is, for messages."""
    if isinstance(which, NetNS):
        return f"network namespace {which._label}", [which]
    if isinstance(which, int):
        return f"the network namespace of process {which}", [NetNS.open(which)]
    text = os.fsdecode(which)
    if "/" not in text:
        what, spaces = namespaces_of(text)
    elif (cgroup := cgroup_of(text)) is not None:
        what, spaces = namespaces_in(cgroup)
    else:
        return f"network namespace {text}", [NetNS.open(text)]
    return what, [NetNS(space) for space in spaces]
