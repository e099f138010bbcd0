# SPDX-License-Identifier: MIT
"""Where a test runs: on this kernel or in a virtual machine, and on which kernel there."""

from __future__ import annotations

import pytest

from netkit_bpf import vm
from pytest_netkit_bpf import requirements

# The fixtures that need a privilege or netkit.
FIXTURES = requirements.MAKES_PAIRS | {"netns_factory", "netkit_monitor_factory", "bpf_object"}


class NoPlaceError(Exception):
    """There is no virtual machine for the test; the text says why."""


def kernels(config: pytest.Config) -> list[str]:
    """The kernels of --netkit-kernel."""
    given = str(config.getoption("netkit_kernel"))
    return [*vm.WITH_NETKIT] if given == "all" else [each for each in given.split(",") if each]


def kernel_of(item: pytest.Item) -> str:
    """The kernel that the item runs on in a virtual machine."""
    callspec = getattr(item, "callspec", None)
    chosen = callspec.params.get("netkit_kernel") if callspec else None
    return str(chosen or kernels(item.config)[0])


def is_elsewhere(item: pytest.Item) -> bool:
    """Whether the item runs in a virtual machine."""
    if not is_about_netkit(item):
        return False
    if item.config.getoption("netkit") == "vm":
        return True
    try:
        reason = requirements.why_not_here(item)
    except pytest.fail.Exception:  # a wrong marker: its setup says so
        return False
    return reason is not None and requirements.why_no_vm() is None


def is_about_netkit(item: pytest.Item) -> bool:
    """Whether the item is marked, or uses a fixture of the plugin that takes a kernel or a privilege."""
    names = getattr(item, "fixturenames", ())
    return item.get_closest_marker("netkit") is not None or not FIXTURES.isdisjoint(names)
