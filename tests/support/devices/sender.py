# SPDX-License-Identifier: MIT
"""Frames with numbers, out of one end of a pair that is quiet otherwise."""

from __future__ import annotations

import socket
from types import TracebackType

from netkit_bpf import NetkitPair
from packets import ipv6, udp

UDP = 17


class Sender:
    """What it sends are events of the primary's side; their source ports count from 1."""

    def __init__(self, pair: NetkitPair) -> None:
        self._socket = pair.primary.netns.socket(socket.AF_PACKET, socket.SOCK_RAW)
        self._socket.bind((pair.primary.name, 0))
        self.sent = 0

    def __call__(self, count: int = 1) -> None:
        """Send the next frames."""
        for _ in range(count):
            self.sent += 1
            self._socket.send(ipv6(UDP, udp(self.sent, 9)))

    def __enter__(self) -> Sender:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._socket.close()


def send(pair: NetkitPair, count: int) -> None:
    """Send so many frames from the primary: seen on its side."""
    with Sender(pair) as sender:
        sender(count)
