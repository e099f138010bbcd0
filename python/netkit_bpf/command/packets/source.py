# SPDX-License-Identifier: MIT
"""Where packets come from: the hooks of pairs, or a capture file."""

from __future__ import annotations

import argparse
import mmap
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence, Sized
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar

from netkit_bpf.command.packets.options import ALL, ANY
from netkit_bpf.command.selection import inhabited_pairs, netns_of, open_pair
from netkit_bpf.command.signals import CHECK_EVERY, Stop
from netkit_bpf.devices.netns import NetNS
from netkit_bpf.devices.pair import NetkitPair, pairs
from netkit_bpf.enums import Side
from netkit_bpf.events.batch import EventBatch
from netkit_bpf.events.files.capture_file import CaptureFile
from netkit_bpf.events.stats import MonitorStats
from netkit_bpf.functions.monitor import Monitor
from netkit_bpf.observer.filter import Filter

_Batch = TypeVar("_Batch", bound=Sized, covariant=True)

_LINE = 160  # bytes of a packet that a line is made of
_MIB = 1 << 20
_LARGEST_RING = 1 << 30  # bytes
_MOST_LINES = 1024  # at a time, so that output stays steady
_ENDLESS = 1 << 62  # packets
_PATIENCE = 0.1  # seconds until a command that has ended is noticed


def expression_of(arguments: argparse.Namespace) -> str:
    """The filter's expression; empty for none."""
    if arguments.filter_file is not None:
        return " ".join(Path(arguments.filter_file).read_text().split())
    return " ".join(arguments.expression)


def _filter_of(arguments: argparse.Namespace) -> Filter | None:
    expression = expression_of(arguments)
    try:
        return Filter(expression) if expression else None
    except ValueError:
        if re.search(r"\b(in|out)bound\b", expression):
            problem = "-Q in and -Q out choose by a packet's direction: leave inbound and outbound out"
            raise ValueError(problem) from None
        raise


def is_any(arguments: argparse.Namespace) -> bool:
    """Whether all pairs are chosen, also those that come."""
    return ANY in (arguments.interface or ())


def open_chosen(arguments: argparse.Namespace) -> tuple[list[NetkitPair], Sequence[Side]]:
    """Open the pairs that are named, and tell which of their sides -Q means. By default it is the only one there is.

    With "any" there is no name: open_monitor() takes all, also those that come.
    """
    names = arguments.interface or []
    inhabited = inhabited_pairs(arguments)
    if is_any(arguments):
        if not pairs(netns_of(arguments)):
            _expect_netkit()
        return inhabited, _sides(arguments, Side.PRIMARY)
    if not names and not inhabited:
        chosen = pairs(netns_of(arguments))
        if len(chosen) != 1:
            there = ", ".join(each.primary.name for each in chosen) or "none"
            raise LookupError(f"say which pair with -i NAME, or -i any: there is {there}")
        return chosen, _sides(arguments, Side.PRIMARY)
    chosen = [_open_one(name, arguments) for name in names]
    ends = {_end_of(name, each) for name, each in zip(names, chosen, strict=True)} | {Side.PRIMARY for _ in inhabited}
    if arguments.direction != "inout" and len(ends) > 1:
        raise ValueError("-Q: name the primaries of all pairs, or the peers of all")
    return chosen + inhabited, _sides(arguments, ends.pop())


def _expect_netkit() -> None:
    """Raise NotSupportedError where no pair will ever come."""
    with suppress(PermissionError), NetNS.create() as netns, NetkitPair.create("probe", netns=netns):
        pass


def _end_of(name: str, pair: NetkitPair) -> Side:
    """The end that the user named; a number, and a container, means the primary."""
    return Side.PRIMARY if name.isdecimal() or pair.primary.name == name else Side.PEER


def _open_one(name: str, arguments: argparse.Namespace) -> NetkitPair:
    """Open a pair by name, or by its number in the list of -D."""
    if name.isdecimal():
        there = pairs(netns_of(arguments))
        if 0 < int(name) <= len(there) and all(each.primary.name != name for each in there):
            return there[int(name) - 1]
    return open_pair(name, arguments)


def _sides(arguments: argparse.Namespace, end: Side) -> Sequence[Side]:
    other = Side.PEER if end is Side.PRIMARY else Side.PRIMARY
    return {"out": (end,), "in": (other,), "inout": (Side.PRIMARY, Side.PEER)}[arguments.direction]


def open_monitor(arguments: argparse.Namespace, chosen: Sequence[NetkitPair], sides: Sequence[Side]) -> Monitor:
    """Attach a monitor that keeps as much of each packet as is asked for."""
    snaplen = snaplen_of(arguments)
    ring = _ring_of(arguments.buffer, snaplen) if arguments.buffer else (16 if snaplen > _LINE else 4) * _MIB
    options: dict[str, Any] = {
        "sides": sides,
        "filter": _filter_of(arguments),
        "snaplen": snaplen,
        "ring_size": ring,
        "redirected": arguments.redirected,
        "keep_first": arguments.keep_first,
    }
    if not is_any(arguments):
        return Monitor(*chosen, **options)
    with ExitStack() as undo:
        monitor = Monitor.all(netns_of(arguments), **options)
        undo.callback(monitor.close)
        for each in chosen:
            if not monitor.watches(each):
                monitor.add(each)
        undo.pop_all()
    return monitor


def _ring_of(kib: int, snaplen: int) -> int:
    """The size of a ring of so many KiB, which is a power of two and a page at least."""
    size = max(1 << (kib * 1024 - 1).bit_length(), mmap.PAGESIZE)
    if size > _LARGEST_RING:
        raise ValueError(f"-B must be {_LARGEST_RING // 1024} KiB at most, not {kib}")
    if size <= snaplen + Monitor.RECORD_SIZE:
        least = (1 << (snaplen + Monitor.RECORD_SIZE).bit_length()) // 1024
        raise ValueError(f"-B: a packet of {snaplen} bytes (-s) needs {least} KiB, not {kib}")
    return size


def names_of(arguments: argparse.Namespace, chosen: Sequence[NetkitPair]) -> str:
    """What is watched, for people."""
    names = [each.primary.name for each in chosen]
    return ", ".join(["all pairs, also those that come", *names] if is_any(arguments) else names)


def snaplen_of(arguments: argparse.Namespace) -> int:
    """How many bytes of each packet are kept."""
    if arguments.snaplen is not None:
        return int(arguments.snaplen)
    if arguments.file is not None or arguments.hex or arguments.both or arguments.characters:
        return ALL
    return _LINE if arguments.format == "tcpdump" else 0


class _Reader(Protocol[_Batch]):
    """A monitor, and what reads as one."""

    @property
    def stats(self) -> MonitorStats: ...

    def read_batch(self, max_events: int, timeout: float | None) -> _Batch: ...


def live(
    monitor: _Reader[_Batch],
    arguments: argparse.Namespace,
    stop: Stop,
    child: subprocess.Popen[bytes] | None = None,
    check: Callable[[], None] | None = None,
) -> Iterator[_Batch]:
    """Give the waiting packets, many at once under load, until a limit, a signal or the end of the command.

    While none come it calls `check` every second, which may raise.
    """
    patience = _PATIENCE if child is not None else CHECK_EVERY if check is not None else None
    end = None if arguments.duration is None else time.monotonic() + arguments.duration
    left, over = arguments.count, False
    while not stop.requested and left != 0:
        rest = None if end is None else end - time.monotonic()
        if rest is not None and rest <= 0:
            return
        if not over and child is not None and child.poll() is not None:
            over = True  # what waits is the last, however many packets come from now on
            left = min(monitor.stats.total.pending, _ENDLESS if left is None else left)
            continue
        wait = min((each for each in (rest, patience) if each is not None), default=None)
        asked = time.monotonic()
        try:
            batch = monitor.read_batch(_MOST_LINES if left is None else min(left, _MOST_LINES), wait)
        except ValueError:
            return  # a signal has just closed it
        if batch:
            yield batch
            left = None if left is None else left - len(batch)
        elif over or patience is None:
            return
        elif check is not None:
            check()
        elif wait is not None and time.monotonic() < asked + wait / 2:
            time.sleep(wait)  # nothing can come any more, but the command goes on


def stored(file: CaptureFile, arguments: argparse.Namespace) -> Iterator[EventBatch]:
    """Give the packets of a file that match."""
    chosen = _filter_of(arguments)
    wanted = _sides(arguments, Side.PRIMARY)
    left = arguments.count
    for batch in file:
        matching = batch if chosen is None else batch.matching(chosen)
        if len(wanted) < len(Side):
            matching = matching[[event.side in wanted for event in matching]]
        if left is not None:
            matching = matching[:left]
            left -= len(matching)
        if matching:
            yield matching
        if left == 0:
            return


def open_file(arguments: argparse.Namespace) -> CaptureFile:
    """Open the file that -r names."""
    if arguments.read != "-":
        return CaptureFile(arguments.read)
    if sys.stdin is None:
        raise ValueError("-r -: there is no standard input")
    if sys.stdin.isatty():
        raise ValueError("-r -: standard input is a terminal: pipe a file into it, or name one")
    return CaptureFile(sys.stdin.buffer)
