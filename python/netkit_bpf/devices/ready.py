# SPDX-License-Identifier: MIT
"""Waiting until a device carries packets and its addresses may be used: rtnetlink(7), RFC 4862 section 5.4."""

from __future__ import annotations

import errno
import ipaddress
import time
from collections.abc import Callable, Iterable

from netkit_bpf._core import Subscription

_IFA_F_OPTIMISTIC = 0x04
_IFA_F_DADFAILED = 0x08
_IFA_F_TENTATIVE = 0x40
_SLICE = 0.1  # seconds; signal handlers run in between


def wait_until_ready(why_not: Callable[[], str], changes: Subscription, name: str, timeout: float | None) -> None:
    """Wait until `why_not` has no reason left, looking again after each change of a device or an address."""
    end = None if timeout is None else time.monotonic() + timeout
    while reason := why_not():
        left = _SLICE if end is None else min(_SLICE, end - time.monotonic())
        if left <= 0:
            raise TimeoutError(errno.ETIMEDOUT, f"{name} is not ready after {timeout:g} s: {reason}")
        changes.wait(left)


def unusable_address(addresses: Iterable[tuple[bytes, int, int]], device: str) -> str:
    """Which of the addresses (bytes, length of the prefix, IFA_F_ flags) may not be used yet; empty if none."""
    for raw, prefix_len, flags in addresses:
        address = ipaddress.ip_interface((raw, prefix_len))
        if flags & _IFA_F_DADFAILED:
            raise OSError(errno.EADDRINUSE, f"address {address} of {device}: another device on the link has it")
        if flags & _IFA_F_TENTATIVE and not flags & _IFA_F_OPTIMISTIC:
            return f"duplicates of {address} are still looked for"
    return ""
