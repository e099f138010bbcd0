# SPDX-License-Identifier: MIT
"""Waiting until a device carries packets and its addresses may be used: rtnetlink(7), RFC 4862 section 5.4."""

from __future__ import annotations

import errno
import ipaddress
import time
from collections.abc import Callable

from netkit_bpf._core import DeviceInfo, NetlinkSocket, Subscription, address_is_delivered, address_list

_IFF_UP = 0x01
_IFF_RUNNING = 0x40
_IFF_LOWER_UP = 0x10000
_IFA_F_OPTIMISTIC = 0x04
_IFA_F_DADFAILED = 0x08
_IFA_F_TENTATIVE = 0x40
_SLICE = 0.1  # seconds; signal handlers run in between


def wait_until_ready(why_not: Callable[[], str], changes: Subscription, name: str, timeout: float | None) -> None:
    """Wait until `why_not` gives no reason any more; it is called again after each change of a device or an address."""
    end = None if timeout is None else time.monotonic() + timeout
    while reason := why_not():
        left = _SLICE if end is None else min(_SLICE, end - time.monotonic())
        if left <= 0:
            raise TimeoutError(errno.ETIMEDOUT, f"{name} is not ready after {timeout:g} s: {reason}")
        changes.wait(left)


def why_not_ready(info: DeviceInfo, target: tuple[NetlinkSocket, tuple[int, str]]) -> str:
    """Why a device is not ready yet; empty if it is. The target is where it is asked for its addresses."""
    if not info.flags & _IFF_UP:
        return "it is down"
    # The kernel reports the first at once, the second up to a second later (net/core/link_watch.c); both count.
    if not info.flags & _IFF_LOWER_UP or not info.flags & _IFF_RUNNING:
        return "it has no carrier: is the other end up?"
    for raw, prefix_len, flags in address_list(*target):
        address = ipaddress.ip_interface((raw, prefix_len))
        if flags & _IFA_F_DADFAILED:
            raise OSError(errno.EADDRINUSE, f"address {address} of {info.name}: another device on the link has it")
        if flags & _IFA_F_TENTATIVE and not flags & _IFA_F_OPTIMISTIC:
            return f"duplicate address detection of {address} has not finished"
        if not address_is_delivered(*target, raw):
            return f"packets to {address} are not delivered yet"
    return ""
