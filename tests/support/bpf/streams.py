# SPDX-License-Identifier: MIT
"""Shared parts of the tests of a stream: which thread empties its ring, what is sent, and the counts."""

from __future__ import annotations

from typing import Any

from native import Native
from netkit_bpf import Side
from packets import ipv6, tcp

PEER = 1  # the place of its side's account
Options = dict[str, Any]
MODES: dict[str, Options] = {
    "on the shared thread": {"thread": "shared"},
    "on a thread of its own": {"thread": "own"},
    "on the caller's thread": {"thread": None},
}


def account(native: Native) -> tuple[int, int, int, int]:
    """Take that of the peer's side, which must add up."""
    stats = native.stream.stats()[PEER]
    seen, delivered, lost, pending = stats
    assert seen == delivered + lost + pending, stats
    return stats


def send_tcp(native: Native, count: int = 1, src_port: int = 1) -> None:
    """Send a segment on the peer's side, `count` times."""
    native.send(Side.PEER, ipv6(6, tcp(src_port=src_port)), count=count)
