# SPDX-License-Identifier: MIT
"""Packets of a monitor into a file that Wireshark and tcpdump open."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from typing import BinaryIO, NamedTuple

from netkit_bpf._core import EventBatch as CoreEventBatch
from netkit_bpf._core import (
    Stream,
    pcapng_interface,
    pcapng_rows,
    pcapng_section,
    pcapng_statistics,
    pcapng_take,
)
from netkit_bpf.enums import Side
from netkit_bpf.events.event import PacketEvent
from netkit_bpf.events.pcapng_file import BlockFile
from netkit_bpf.internal.waiting import end_of

_MOST = 65536  # packets at a time


class Interface(NamedTuple):
    """A side of a pair as an interface of a capture file: the device that sends the packets."""

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
    """Make an interface for each watched side of each pair, named after the sending device.

    Args:
        names: of the primaries.
        peers: the names of their peers; None if unknown.
        sides: by number.
    """
    found = []
    for number, (name, peer, watched) in enumerate(zip(names, peers, sides, strict=True)):
        for side in watched:
            is_primary = side == Side.PRIMARY.number
            sender = name if is_primary else peer or f"{name} (peer)"
            found.append(Interface(number, side, sender, f"{'primary' if is_primary else 'peer'} of the pair {name}"))
    return found


def write_rows(rows: CoreEventBatch, target: str | os.PathLike[str] | BinaryIO) -> None:
    """Write the packets of a batch to a new file."""
    with BlockFile(target) as file:
        file.write(pcapng_section("netkit-bpf") + interfaces_of_pairs(rows.names))
        for first in range(0, len(rows), _MOST):
            file.write(pcapng_rows(rows, first, _MOST))


def interfaces_of_pairs(names: Sequence[str], expression: str = "", snaplen: int = 0) -> bytes:
    """Describe the interfaces of a file of rows: the sides of each pair."""
    header = b""
    for name in names:
        for sender, side in ((name, "primary"), (f"{name} (peer)" if name else "", "peer")):
            header += pcapng_interface(sender, f"{side} of the pair {name}" if name else "", expression, snaplen)
    return header


def counts_of_side(interface: int, start_ns: int, matching: tuple[int, int], lost: int, delivered: int) -> bytes:
    """Describe what became of the packets of an interface until now: of those that match, and of the others."""
    seen, others = matching
    return pcapng_statistics(interface, start_ns, time.time_ns(), seen + others, seen, lost, delivered)


class Capture:
    """A capture file that is being written.

    Args:
        stream: where the packets come from.
        interfaces: the interfaces that the packets come from.
        expression: the filter; empty for none.
        snaplen: that of the stream.
        start_ns: when the stream began, Unix time in nanoseconds.
        counts: returns the counts of each interface since then; None if they are unknown.
        later: returns the names and the interfaces that there are now, once the stream's names are others; None if they
            stay.
        names: the stream's, when the interfaces were made.
    """

    def __init__(
        self,
        stream: Stream[PacketEvent],
        interfaces: Sequence[Interface],
        expression: str,
        snaplen: int,
        start_ns: int,
        counts: Callable[[], Sequence[Counts]] | None,
        later: Callable[[], tuple[tuple[str, ...], Sequence[Interface]]] | None = None,
        names: tuple[str, ...] | None = None,
    ) -> None:
        self._stream = stream
        self._names = stream.names if names is None else names
        self._expression = expression
        self._snaplen = snaplen
        self._interfaces: dict[tuple[int, int], Interface] = {}  # by pair and side
        self._numbers: list[int] = []  # likewise
        self._written: list[int] = []
        self._header = pcapng_section("netkit-bpf") + self._describe(interfaces)
        self._start_ns = start_ns
        self._counts = counts
        self._later = later

    def write(
        self,
        target: str | os.PathLike[str] | BinaryIO,
        count: int | None,
        timeout: float | None,
        duration: float | None = None,
    ) -> int:
        """Write packets; see `PacketReader.capture` for when it ends."""
        end = end_of(duration)
        with BlockFile.of(target) as file:
            file.write(self._header)
            try:
                self._write_packets(file, count, timeout, end)
            finally:  # however the packets ended, unless the file cannot be written
                if not file.failed:
                    file.write(self._statistics())
        return sum(self._written)

    def _describe(self, interfaces: Sequence[Interface]) -> bytes:
        """The blocks for those interfaces that are new."""
        blocks = b""
        for each in interfaces:
            known = self._interfaces.get((each.pair, each.side))
            if known is not None and known.description == each.description:
                continue
            blocks += pcapng_interface(each.name, each.description, self._expression, self._snaplen)
            self._numbers += [0] * (len(Side) * (1 + each.pair) - len(self._numbers))
            self._numbers[len(Side) * each.pair + each.side] = len(self._written)
            self._interfaces[each.pair, each.side] = each
            self._written.append(0)
        return blocks

    def _write_packets(self, file: BlockFile, count: int | None, timeout: float | None, end: float) -> None:
        told = self._lost()  # how many lost packets the file has recorded
        while count is None or sum(self._written) < count:
            lost = self._lost()
            dropped = [number - known for number, known in zip(lost, told, strict=True)]
            most = _MOST if count is None else min(_MOST, count - sum(self._written))
            left = min(math.inf if timeout is None else timeout, end - time.monotonic())
            if left < 0 and any(self._written):
                return
            wait = None if left == math.inf else max(left, 0.0)
            try:
                blocks, taken = pcapng_take(self._stream, most, wait, self._numbers, dropped, self._names)
            except IndexError:  # a pair was added since
                if self._later is None:
                    raise
                self._names, interfaces = self._later()
                file.write(self._describe(interfaces))
                self._counts = None  # those that were given are of one pair
                told = self._lost()
                continue
            if not any(taken):
                return
            file.write(blocks)
            self._written = [sum(each) for each in zip(self._written, taken, strict=True)]
            told = [new if number else old for new, number, old in zip(lost, taken, told, strict=True)]

    def _lost(self) -> list[int]:
        return [each.lost for each in self._counts()] if self._counts else [0] * len(self._written)

    def _statistics(self) -> bytes:
        blocks = b""
        for number, counts in enumerate(self._counts() if self._counts else ()):
            blocks += counts_of_side(
                number, self._start_ns, (counts.seen, counts.filtered), counts.lost, self._written[number]
            )
        return blocks
