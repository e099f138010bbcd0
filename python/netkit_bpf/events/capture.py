# SPDX-License-Identifier: MIT
"""Packets of a monitor into a file that Wireshark and tcpdump open."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from typing import BinaryIO, NamedTuple

from netkit_bpf._core import (
    EventBatch as CoreEventBatch,
)
from netkit_bpf._core import (
    Stream,
    pcapng_interface,
    pcapng_rows,
    pcapng_section,
    pcapng_statistics,
    pcapng_take,
)
from netkit_bpf.events.event import PacketEvent
from netkit_bpf.events.pcapng_file import BlockFile
from netkit_bpf.internal.waiting import end_of

_MOST = 65536  # packets in one go
_SIDES = 2
_PRIMARY = 0


class Interface(NamedTuple):
    """A side of a pair as a capture file sees it: the device that sends what is there."""

    pair: int
    side: int
    name: str
    description: str


class Counts(NamedTuple):
    """What became of the packets of one interface so far."""

    seen: int
    lost: int
    filtered: int


def interfaces_of(names: Sequence[str], peers: Sequence[str | None], sides: Sequence[Sequence[int]]) -> list[Interface]:
    """Make an interface of each watched side of each pair, named after the device that sends.

    Args:
        names: of the primaries.
        peers: the names of their peers; None where that is not known.
        sides: by number.
    """
    found = []
    for number, (name, peer, watched) in enumerate(zip(names, peers, sides, strict=True)):
        for side in watched:
            is_primary = side == _PRIMARY
            sender = name if is_primary else peer or f"{name} (peer)"
            found.append(Interface(number, side, sender, f"{'primary' if is_primary else 'peer'} of the pair {name}"))
    return found


def write_rows(rows: CoreEventBatch, target: str | os.PathLike[str] | BinaryIO) -> None:
    """Write the packets of a batch to a file of their own."""
    with BlockFile(target) as file:
        header = pcapng_section("netkit-bpf")
        for name in rows.names:
            for sender, description in ((name, "primary"), (f"{name} (peer)", "peer")):
                header += pcapng_interface(sender, f"{description} of the pair {name}", "", 0)
        file.write(header)
        for first in range(0, len(rows), _MOST):
            file.write(pcapng_rows(rows, first, _MOST))


class Capture:
    """One file in the making.

    Args:
        stream: where the packets come from.
        interfaces: what the stream has packets of.
        expression: the filter; empty for none.
        snaplen: the stream's.
        start_ns: since when the stream has them.
        counts: gives the counts of each interface since then; None where they cannot be told.
    """

    def __init__(
        self,
        stream: Stream[PacketEvent],
        interfaces: Sequence[Interface],
        expression: str,
        snaplen: int,
        start_ns: int,
        counts: Callable[[], Sequence[Counts]] | None,
    ) -> None:
        self._stream = stream
        self._interfaces = interfaces
        self._numbers = [0] * (_SIDES * (1 + max(each.pair for each in interfaces)))
        for number, each in enumerate(interfaces):
            self._numbers[_SIDES * each.pair + each.side] = number
        self._header = pcapng_section("netkit-bpf")
        for each in interfaces:
            self._header += pcapng_interface(each.name, each.description, expression, snaplen)
        self._start_ns = start_ns
        self._counts = counts
        self._written = [0] * len(interfaces)

    def write(
        self,
        target: str | os.PathLike[str] | BinaryIO,
        count: int | None,
        timeout: float | None,
        duration: float | None = None,
    ) -> int:
        """Write packets; `PacketReader.capture` tells when it ends."""
        end = end_of(duration)
        with BlockFile(target) as file:
            file.write(self._header)
            try:
                self._write_packets(file, count, timeout, end)
            finally:  # however the packets ended, but not if the file cannot be written
                if not file.failed:
                    file.write(self._statistics())
        return sum(self._written)

    def _write_packets(self, file: BlockFile, count: int | None, timeout: float | None, end: float) -> None:
        told = self._lost()  # how many of the lost packets the file tells of
        while count is None or sum(self._written) < count:
            lost = self._lost()
            dropped = [number - known for number, known in zip(lost, told, strict=True)]
            most = _MOST if count is None else min(_MOST, count - sum(self._written))
            left = min(math.inf if timeout is None else timeout, end - time.monotonic())
            if left < 0 and any(self._written):
                return
            wait = None if left == math.inf else max(left, 0.0)
            blocks, taken = pcapng_take(self._stream, most, wait, self._numbers, dropped)
            if not any(taken):
                return
            file.write(blocks)
            self._written = [sum(each) for each in zip(self._written, taken, strict=True)]
            told = [new if number else old for new, number, old in zip(lost, taken, told, strict=True)]

    def _lost(self) -> list[int]:
        return [each.lost for each in self._counts()] if self._counts else [0] * len(self._interfaces)

    def _statistics(self) -> bytes:
        blocks = b""
        for number, counts in enumerate(self._counts() if self._counts else ()):
            blocks += pcapng_statistics(
                number,
                self._start_ns,
                time.time_ns(),
                counts.seen + counts.filtered,
                counts.seen,
                counts.lost,
                self._written[number],
            )
        return blocks
