# SPDX-License-Identifier: MIT
"""The pairs that a function watches."""

from __future__ import annotations

from netkit_bpf.devices.pair import NetkitPair
from netkit_bpf.internal.arguments import expect


def expect_pairs(*pairs: object) -> list[NetkitPair]:
    """Return the pairs; TypeError if one is none, ValueError if one is named twice."""
    hint = "several go one by one, as first, second or as *lab.pairs; NetkitPair.open() takes a name"
    chosen = [expect(each, NetkitPair, "pair", hint) for each in pairs]
    devices = [each.primary for each in chosen]
    if len({(device.netns, device.ifindex) for device in devices}) < len(devices):
        raise ValueError("a pair is named twice: each can be watched once")
    return chosen
