# SPDX-License-Identifier: MIT
"""What a test may need, and why it is missing here: each probe runs once per test run, in a separate namespace."""

from __future__ import annotations

import errno
import functools
import re
from collections.abc import Iterable
from typing import NoReturn

import pytest

import netkit_bpf as nk
from netkit_bpf.functions.monitor_programs import probe_load
from netkit_bpf.internal import kernel_release

# Fixtures.
MAKES_PAIRS = frozenset(
    {"netkit_pair_factory", "netkit_lab_factory", "module_netkit_lab_factory", "session_netkit_lab_factory"}
)


class OfThisKernel(str):
    """A reason that is none on another kernel."""

    __slots__ = ()


def missing(config: pytest.Config, reason: str) -> NoReturn:
    """Skip the test, or fail it with --netkit=require."""
    mode = config.getoption("netkit")
    if mode == "require":
        pytest.fail(f"--netkit=require, but {reason}", pytrace=False)
    if mode == "auto" and (no_vm := why_no_vm()):
        reason += f"; and no virtual machine: {no_vm}"
    elif mode != "auto" and isinstance(reason, OfThisKernel):
        reason += "; --netkit=auto runs it in a virtual machine"
    pytest.skip(reason)


def why_not_here(item: pytest.Item) -> str | None:
    """Why an item that is about netkit cannot run on this kernel; None if it can."""
    needed = [marker.kwargs.get("min_kernel") for marker in item.iter_markers("netkit")]
    return why_no_kernel([each for each in needed if each is not None]) or (
        why_no_netkit() if needed or is_with_netkit(item) else why_no_bpf() or why_no_netns()
    )


def is_with_netkit(item: pytest.Item) -> bool:
    """Whether a fixture of the item makes pairs."""
    return not MAKES_PAIRS.isdisjoint(getattr(item, "fixturenames", ()))


@functools.cache
def why_no_vm() -> str | None:
    """Why no virtual machine can be started here; None if one can."""
    from netkit_bpf import vm

    return vm.why_not()


def why_no_kernel(needed: Iterable[str], running: str | None = None) -> str | None:
    """Why this kernel is too old for one of the releases, "6.14" or "6.12.4"; None if it is not."""
    for release in needed:
        if not isinstance(release, str) or not re.fullmatch(r"\d+\.\d+(\.\d+)?", release):
            pytest.fail(f"min_kernel must be written as '6.14' or '6.12.4', not {release!r}", pytrace=False)
        if not kernel_release.is_at_least(release, running):
            return OfThisKernel(f"this needs Linux {release}, and this kernel is {running or kernel_release.running()}")
    return None


@functools.cache
def why_no_netns() -> str | None:
    """Why no namespace can be made here; None if one can."""
    try:
        nk.NetNS.create().delete()
    except OSError as error:
        return _told(error)
    return None


@functools.cache
def why_no_netkit() -> str | None:
    """Why no pair can be made here; None if one can."""
    if reason := why_no_netns():
        return reason
    try:
        with nk.NetNS.create() as netns, nk.NetkitPair.create(netns=netns):
            return None
    except nk.NotSupportedError as error:
        return OfThisKernel(error.strerror)
    except OSError as error:
        return _told(error)


def _told(error: OSError) -> str:
    limit = " (the limit in /proc/sys/user/max_net_namespaces is reached)" if error.errno == errno.ENOSPC else ""
    return f"{error.strerror}{limit}"


@functools.cache
def why_no_bpf() -> str | None:
    """Why no BPF program can be loaded here; None if one can."""
    try:
        probe_load()
    except OSError as error:
        return _told(error)
    return None


@functools.cache
def why_no_monitor() -> str | None:
    """Why no pair can be monitored here; None if one can."""
    return why_no_netkit() or why_no_bpf()
