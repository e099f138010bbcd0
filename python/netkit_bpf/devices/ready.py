# SPDX-License-Identifier: MIT
"""Waiting until a device carries packets and its addresses may be used: rtnetlink(7), RFC 4862 section 5.4."""

from __future__ import annotations

import errno
import ipaddress
import time
from typing import TYPE_CHECKING

from netkit_bpf._core import Subscription, address_list
from netkit_bpf.internal.arguments import expect_timeout

if TYPE_CHECKING:  # which imports this module
    from netkit_bpf.devices.device import Device

_IFF_UP = 0x01
_IFF_RUNNING = 0x40
_IFA_F_OPTIMISTIC = 0x04
_IFA_F_DADFAILED = 0x08
_IFA_F_TENTATIVE = 0x40
_SLICE = 0.1  # seconds; signal handlers run in between


def wait_ready(device: Device, timeout: float | None) -> None:
    """Wait as `Device.wait_ready` says."""
    timeout = expect_timeout(timeout)
    end = None if timeout is None else time.monotonic() + timeout
    changes = Subscription(device.netns._open())
    while reason := _why_not(device):
        left = _SLICE if end is None else min(_SLICE, end - time.monotonic())
        if left <= 0:
            raise TimeoutError(errno.ETIMEDOUT, f"{device._known_name} is not ready after {timeout:g} s: {reason}")
        changes.wait(left)


def _why_not(device: Device) -> str:
    """What the device waits for; empty if nothing."""
    flags = device._read().flags
    if not flags & _IFF_UP:
        return "it is down"
    if not flags & _IFF_RUNNING:
        return "it has no carrier: is the other end up?"
    for raw, prefix_len, address_flags in address_list(*device._target()):
        address = ipaddress.ip_interface((raw, prefix_len))
        if address_flags & _IFA_F_DADFAILED:
            raise OSError(
                errno.EADDRINUSE, f"address {address} of {device._known_name}: another device on the link has it"
            )
        if address_flags & _IFA_F_TENTATIVE and not address_flags & _IFA_F_OPTIMISTIC:
            return f"duplicates of {address} are still looked for"
    return ""
