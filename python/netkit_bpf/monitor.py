# SPDX-License-Identifier: MIT
"""The packet monitor."""

from __future__ import annotations

import contextlib
import mmap
import os
import re
import struct
import time
import weakref
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from netkit_bpf import _core
from netkit_bpf.account import Filtered, MonitorStats, ReadingStats, SideStats
from netkit_bpf.arguments import expect, expect_in
from netkit_bpf.batch import ANY_NUMBER, BatchReader, EventBatch
from netkit_bpf.capture import Capture, Counts, interfaces_of
from netkit_bpf.device import Device
from netkit_bpf.enums import Side, parse
from netkit_bpf.event import PacketEvent
from netkit_bpf.filter import Filter
from netkit_bpf.pair import NetkitPair

_MIB = 1 << 20
_LARGEST_RING = 1 << 30
_SIDES = {Side.PRIMARY: 0, Side.PEER: 1}
_LONGEST_SNAP = 262144  # tcpdump's own
_EVENT_SIZE = 72  # struct nk_event, bpf/event.h
_RECORD_SIZE = 80  # with the ring's header
_LEAST_DATA = 16  # bpf/packet.h, nk_copy_data()
_SIDE_OFFSET = 68  # of nk_event.side, bpf/event.h
_PROGRAMS = ("monitor_primary", "monitor_peer")
_VERDICT_SIZE = 4


class Monitor:
    """Watches every packet on the hooks of one or more netkit pairs, and alters none.

    It is attached from its construction until `close`, before all other programs of the hooks. A side
    whose policy is blackhole stays one.

    Any thread may read, close it and ask for its stats. Each event goes to one reader, so two readers share the
    stream. Signal handlers run while a read waits. Iterating waits for ever; `events(timeout=…)` ends in
    silence. A forked child can neither use the monitor nor harm it.

    A single event arrives some tens of microseconds after its packet. When events keep coming, the reader looks after
    them every 0.4 ms at most instead of having each packet wake it, which would cost the packet microseconds.

    Args:
        pair: the pair to watch.
        pairs: more pairs.
        sides: which hooks: "primary", "peer" or both.
        filter: a pcap-filter(7) expression, "icmp6 or tcp port 443". It is executed in the kernel, before a record is
            made: a packet that does not match costs no more than that, and goes its way all the same. It matches what
            is on the wire: behind a VLAN tag, "vlan and icmp6". Names of hosts are looked up once, now.
        snaplen: how many bytes of each packet an event carries as its `data`, from the Ethernet header on, as on the
            wire; 0 to 262144. A packet then takes that much more of the ring, or its own length if it is shorter. With
            0 there are none, which costs nothing. A buffer of that size is kept for each CPU.
        ring_size: bytes of the ring buffer that all hooks share: a power of two, 4096 to 1 GiB. A packet
            takes 80 bytes until the reader's thread has it, and its data with a snaplen.
        queue_size: bytes of events that may wait for Python behind the ring.
        threaded: whether a thread empties the ring while Python does something else. Without one the events stay in the
            ring until they are read, which is the quickest for a program that does nothing but read: an event takes
            some 5 microseconds less, and packets are lost as soon as reading pauses for longer than the ring holds.
        share_thread: whether that thread is the one that all monitors share; False makes one for this monitor alone.

    Raises:
        ValueError: an argument is not possible, whatever the kernel; of a filter, in libpcap's words.
        FileNotFoundError: a filter needs libpcap, and there is none.
        PermissionError: CAP_BPF or CAP_NET_ADMIN is missing.
        OSError: ENODEV, a pair is gone.

    >>> with Monitor(pair) as monitor:  # doctest: +SKIP
    ...     for event in monitor.events(timeout=1.0):
    ...         print(event)
    """

    def __init__(
        self,
        pair: NetkitPair,
        *pairs: NetkitPair,
        sides: Sequence[Side | str] = (Side.PRIMARY, Side.PEER),
        filter: str | None = None,  # noqa: A002 - tcpdump's and libpcap's word
        snaplen: int = 0,
        ring_size: int = 4 * _MIB,
        queue_size: int = 16 * _MIB,
        threaded: bool = True,
        share_thread: bool = True,
    ) -> None:
        numbers = _check_sides(sides)
        _check_ring_size(ring_size)
        if expect_in(snaplen, range(_LONGEST_SNAP + 1), "snaplen") + _RECORD_SIZE >= ring_size:
            raise ValueError(f"ring_size must have room for a packet of {snaplen} bytes, not be {ring_size}")
        if expect(queue_size, int, "queue_size") < mmap.PAGESIZE:
            raise ValueError(f"queue_size must be at least {mmap.PAGESIZE} bytes, not {queue_size}")
        hint = "several go one by one, Monitor(first, second); NetkitPair.open() takes a name"
        devices = [expect(each, NetkitPair, "pair", hint).primary for each in (pair, *pairs)]
        expect(threaded, bool, "threaded")
        expect(share_thread, bool, "share_thread")
        if len({(device.netns, device.ifindex) for device in devices}) < len(devices):
            raise ValueError("a pair is named twice: each can be watched once by a monitor")

        chosen = None if filter is None else Filter(filter)
        start_ns = time.time_ns()
        attachments: list[_core.Attachment] = []
        programs: list[_core.Object] = []
        names: list[str] = []
        try:
            for index, device in enumerate(devices):
                names.append(device.name)
                programs.append(_load(index, ring_size, programs[0] if programs else None, snaplen))
                attachments.append(_attach(programs[-1], device, names[-1], numbers, chosen))
            self._stream = _open(
                programs[0],
                ring_size,
                queue_size,
                names,
                attachments,
                threaded=threaded,
                share_thread=share_thread,
                loss_advice=_loss_advice(names, ring_size),
            )
        except BaseException:
            for attachment in attachments:
                attachment.close()
            raise
        self._filter = chosen
        self._snaplen = snaplen
        self._start_ns = start_ns
        self._sides = numbers
        self._names = names
        self._sizes = ring_size, queue_size
        self._pairs = [weakref.ref(each) for each in (pair, *pairs)]  # a pair that is dropped is deleted
        # Runs at the latest when the interpreter exits, so that no thread waits in a dying interpreter.
        self._closer = weakref.finalize(self, _close, self._stream, attachments, programs, chosen, os.getpid())
        self._process = os.getpid()

    def events(self, timeout: float | None = None) -> Iterator[PacketEvent]:
        """Iterate over the events; the iterator ends after `timeout` seconds without one, or on `close`.

        With a timeout of 0 it gives what is there and waits for nothing.

        Raises:
            ValueError: the monitor is closed.
            OSError: ENODEV, from the iterator: the device or its namespace was deleted, and all events
                from before that are delivered.
        """
        self._check_open()
        return self._stream.events(_check_timeout(timeout))

    def __iter__(self) -> Iterator[PacketEvent]:
        return self.events()

    def read(self, timeout: float | None = None) -> PacketEvent | None:
        """Return one event; None after `timeout` seconds without one, or when the monitor is closed meanwhile.

        Raises what `events` raises. A timeout of 0 only looks.
        """
        self._check_open()
        return self._stream.read(_check_timeout(timeout))

    def __aiter__(self) -> AsyncIterator[PacketEvent]:
        """Iterate in a task: the event loop that runs it stays free while there are no events."""
        from netkit_bpf.aio import Reader

        self._check_open()
        return Reader(self._stream, lambda: self._stream.events(0.0), None, patience=256)

    def read_batch(self, max_events: int = 65536, timeout: float | None = None) -> EventBatch:
        """Return the events that wait, at most `max_events` of them, in one piece of memory.

        Waits for the first event; the batch is empty, and so false, after `timeout` seconds without one, or when the
        monitor is closed meanwhile. Raises what `events` raises. A timeout of 0 only looks.

        >>> while batch := monitor.read_batch(timeout=1.0):  # doctest: +SKIP
        ...     print(numpy.asarray(batch)["length"].sum())
        """
        if expect(max_events, int, "max_events") < 1:
            raise ValueError(f"max_events must be at least 1, not {max_events}")
        self._check_open()
        most, with_data = min(max_events, ANY_NUMBER), self._snaplen > 0
        return EventBatch._of(self._stream.read_batch(most, _check_timeout(timeout), merge=True, with_data=with_data))

    def batches(self, timeout: float | None = None) -> BatchReader:
        """Iterate over the events in batches as they come: one event when it is quiet, thousands under load, no copy.

        Takes `for` and `async for`; ends after `timeout` seconds without an event, or on `close`. Raises what `events`
        raises.

        >>> async for batch in monitor.batches():  # doctest: +SKIP
        ...     print(numpy.asarray(batch)["length"].sum())
        """
        self._check_open()
        return BatchReader(self._stream, _check_timeout(timeout), with_data=self._snaplen > 0)

    def fileno(self) -> int:
        """A descriptor for `select` and its like: readable while events wait, or the monitor has come to its end.

        It stays readable until a read finds nothing: read with a timeout of 0 until None comes. It is the monitor's
        own and gone when that is closed.

        Raises:
            ValueError: the monitor is closed.
        """
        self._check_open()
        return self._stream.fileno()

    def capture(
        self,
        target: str | os.PathLike[str] | BinaryIO,
        *,
        count: int | None = None,
        timeout: float | None = None,
    ) -> int:
        """Write the packets to a pcapng file, which Wireshark and tcpdump open; returns how many it wrote.

        It ends after `count` packets, after `timeout` seconds without one, or when the monitor is closed. What is
        there is written at once, and the file ends with a whole packet at any time.

        Each side that is watched is an interface, named after the device that sends, so that all packets are
        outbound. The file has their times in nanoseconds, the filter, and, of a monitor of one pair, how many packets
        were lost: about where, and in all since the monitor was made. A packet can be larger than the MTU: it is
        captured before it is cut into segments (GSO), and its checksum may not be filled in.

        Args:
            target: a path, which is created or emptied, or a binary file, which is left open.
            count: packets, 1 or more.
            timeout: seconds.

        Raises:
            ValueError: the monitor is closed, or has no snaplen and so no data.
            BrokenPipeError: nobody reads the pipe any more.
            OSError: the file cannot be written, or what `events` raises; the packets before that are in the file.

        >>> with Monitor(pair, snaplen=65535, filter="icmp6") as monitor:  # doctest: +SKIP
        ...     monitor.capture("ping.pcapng", timeout=5.0)

        Source: https://datatracker.ietf.org/doc/draft-ietf-opsawg-pcapng/
        """
        self._check_open()
        if not self._snaplen:
            raise ValueError("this monitor keeps no data of packets: make it with a snaplen, snaplen=262144 for all")
        if count is not None:
            expect_in(count, range(1, 1 << 62), "count")
        expression = "" if self._filter is None else self._filter.expression
        interfaces = interfaces_of(self._names, self._pairs, self._sides)
        counts = self._interface_counts if len(self._names) == 1 else None
        made = Capture(self._stream, interfaces, expression, self._snaplen, self._start_ns, counts)
        return made.write(target, count, _check_timeout(timeout))

    @property
    def stats(self) -> MonitorStats:
        """The account up to now; after `close`, the final one."""
        self._check_process()
        (primary, peer), (ring, queue, naps, wakeups) = self._stream.stats(), self._stream.limits()
        ring_size, queue_size = self._sizes
        return MonitorStats(
            SideStats(*primary), SideStats(*peer), ReadingStats(ring, ring_size, queue, queue_size, naps, wakeups)
        )

    @property
    def filtered(self) -> Filtered:
        """How many packets did not match the filter; `stats` does not see them. After `close`, the final counts."""
        self._check_process()
        return Filtered(0, 0) if self._filter is None else Filtered(*self._filter.filtered)

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return not self._closer.alive

    def close(self) -> None:
        """Detach the programs, end the reading and wake whoever waits. Idempotent.

        Events that nobody has read are dropped; the final `stats` count them as pending.
        """
        self._closer()

    def __enter__(self) -> Monitor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Monitor {', '.join(self._names)} {'closed' if self.closed else 'open'}>"

    def _interface_counts(self) -> list[Counts]:
        """What became of the packets of each side that is watched, all pairs together."""
        stats, filtered = self.stats, self.filtered
        return [Counts(stats[side].seen, stats[side].lost, filtered[side]) for side in self._sides]

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("the monitor is closed")
        self._check_process()

    def _check_process(self) -> None:
        if os.getpid() != self._process:
            raise ValueError("the monitor belongs to the process that made it, not to its forked child")


def _load(index: int, ring_size: int, shared: _core.Object | None, snaplen: int = 0) -> _core.Object:
    """Load the programs for the pair number `index`; all after the first share its ring and counters."""
    image = (Path(_core.__file__).parent / "monitor.bpf.o").read_bytes()
    program = _core.Object(image, "monitor")
    program.set_variable("pair_index", struct.pack("=H", index))
    program.set_max_entries("events", ring_size)
    if snaplen:
        program.set_variable("snaplen", struct.pack("=I", snaplen))
        program.set_value_size("scratch", _EVENT_SIZE + max(snaplen, _LEAST_DATA))
        program.set_max_entries("scratch", _possible_cpus())
    if shared is not None:
        for name in ("events", "counts"):
            program.reuse_map(name, shared.map(name))
    program.load()
    return program


def _possible_cpus() -> int:
    """One more than the highest number that a CPU can have."""
    numbers = Path("/sys/devices/system/cpu/possible").read_text()  # "0-3"
    return int(re.split("[-,]", numbers)[-1]) + 1


def _attach(
    program: _core.Object, device: Device, name: str, sides: list[int], chosen: Filter | None
) -> _core.Attachment:
    section, offset, _ = program.variable("verdict")
    programs: list[_core.Program | None] = [None, None]
    for side in sides:
        each = program.open_program(_PROGRAMS[side])
        programs[side] = each
        if chosen is not None:
            programs[side] = chosen.before(each, side, program.map(section), offset + _VERDICT_SIZE * side)
    primary, peer = programs
    return _core.Attachment(
        "monitor", device.netns.path, name, device.ifindex, primary, peer, program.map(section), offset
    )


def _open(
    shared: _core.Object,
    ring_size: int,
    queue_size: int,
    names: Sequence[str],
    attachments: list[_core.Attachment],
    *,
    threaded: bool = True,
    share_thread: bool = True,
    loss_advice: str | None = None,
) -> _core.Stream[PacketEvent]:
    """Read the events of loaded programs; `names` are those of their pairs."""
    return _core.Stream(
        shared,
        [(shared.map("events"), ring_size)],
        queue_size,
        tuple(names),
        counts=shared.map("counts"),
        sources=len(_SIDES),
        source_offset=_SIDE_OFFSET,
        attachments=attachments,
        threaded=threaded,
        share_thread=share_thread,
        loss_advice=loss_advice,
    )


def _loss_advice(names: Sequence[str], ring_size: int) -> str:
    return (
        f"the monitor of {', '.join(names)} loses packets: they come faster than they are read, and its ring of "
        f"{ring_size} bytes is full. Take a larger ring_size, leave packets out by filter, read in batches, or do "
        f"less for each event; stats counts what is lost. This is said once"
    )


def probe_load() -> None:
    """Load the programs and let them go again; raises what loading raises."""
    _load(0, mmap.PAGESIZE, None)


def _close(
    stream: _core.Stream[PacketEvent],
    attachments: list[_core.Attachment],
    programs: list[_core.Object],
    chosen: Filter | None,
    process: int,
) -> None:
    if os.getpid() != process:
        return  # a forked child has neither the reader's thread nor anything of its own to detach
    with contextlib.ExitStack() as last_first:  # whatever fails, the rest is closed
        # While the programs are attached they call each other by way of maps, which empty when nobody holds them.
        last_first.callback(programs.clear)
        if chosen is not None:
            last_first.callback(chosen.close)
        last_first.callback(stream.close)
        for attachment in attachments:
            last_first.callback(attachment.close)


def _check_sides(sides: Sequence[Side | str]) -> list[int]:
    if isinstance(sides, str):
        sides = (sides,)
    expect(sides, Sequence, "sides")  # type: ignore[type-abstract]
    parsed = [parse(Side, side, "sides") for side in sides]
    if not parsed or len(set(parsed)) != len(parsed):
        raise ValueError("sides must name one or both sides, each once")
    return [_SIDES[side] for side in parsed]


def _check_ring_size(ring_size: int) -> None:
    expect(ring_size, int, "ring_size")
    if not mmap.PAGESIZE <= ring_size <= _LARGEST_RING or ring_size & (ring_size - 1):
        raise ValueError(f"ring_size must be a power of two from {mmap.PAGESIZE} to {_LARGEST_RING}, not {ring_size}")


def _check_timeout(timeout: float | None) -> float | None:
    if timeout is None:
        return None
    if not isinstance(timeout, float):
        expect(timeout, int, "timeout", "a number of seconds")
    if not timeout >= 0:  # refuses NaN too
        raise ValueError(f"timeout must be a number of seconds, 0 or more, or None, not {timeout!r}")
    return float(timeout)
