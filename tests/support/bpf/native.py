# SPDX-License-Identifier: MIT
"""Runs the monitor's programs on given frames by BPF_PROG_TEST_RUN, without a netkit device."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from types import TracebackType

from decoder import IPV4, IPV6, Fields, decode
from netkit_bpf import Side, _core
from netkit_bpf.events.event import PacketEvent
from netkit_bpf.functions.cpu_rings import make_cpu_rings
from netkit_bpf.functions.monitor_programs import load_programs
from netkit_bpf.internal.arguments import Rings, StreamOptions, Thread

PAIR = "nk0"
PROGRAMS = {Side.PRIMARY: "monitor_primary", Side.PEER: "monitor_peer"}
NEXT = -1
RING = 4 << 20
QUEUE = 16 << 20
BATCH = 10_000  # events; they fit the ring even if the reader's thread never runs
SHOWN = 5  # differences in a failure's message
_NEEDED = {"CAP_NET_ADMIN": 12, "CAP_BPF": 39}  # linux/capability.h


def why_no_bpf() -> str:
    """Return why this process cannot load the programs; empty if it can."""
    status = Path("/proc/self/status").read_text()
    effective = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapEff:"))
    missing = [name for name, bit in _NEEDED.items() if not effective >> bit & 1]
    return f"loading BPF programs needs {' and '.join(missing)}: run as root" if missing else ""


def may_be_refused(frame: bytes) -> bool:
    """Tell whether a kernel may refuse to run a program on this frame: one too short for the IP header it announces.

    Newer kernels refuse it (net/bpf/test_run.c), though such a frame can reach a hook. The same packet behind a VLAN
    tag is run.
    """
    ethertype = int.from_bytes(frame[12:14], "big")
    least = {IPV4: 20, IPV6: 40}.get(ethertype, 0)
    return len(frame) - 14 < least or len(frame) < 15


def open_stream(
    program: _core.Object,
    queue_size: int,
    names: Sequence[str],
    *,
    thread: Thread | None = "shared",
    loss_advice: str | None = None,
    maps: Sequence[_core.Map] = (),
    rings: Rings = "shared",
) -> _core.Stream[PacketEvent]:
    """Read the events of loaded programs as the core does it."""
    maps = maps or [program.open_map("events")]
    return _core.Stream(
        (program, maps),
        [ring.fileno() for ring in maps],
        tuple(names),
        **StreamOptions(queue_size, rings, thread)._asdict(),
        counts=program.map("counts"),
        sources=len(PROGRAMS),
        source_offset=_core.SIDE_OFFSET,
        loss_advice=loss_advice,
    )


class Native:
    """The loaded programs, and their events."""

    def __init__(
        self,
        *,
        ring_size: int = RING,
        queue_size: int = QUEUE,
        snaplen: int = 0,
        thread: Thread | None = "own",
        loss_advice: str | None = None,
        rings: Rings = "shared",
    ) -> None:
        self.object = load_programs(0, ring_size, None, snaplen, rings=rings)
        core = self.object._core
        assert core is not None
        self.program = core
        self.stream = open_stream(
            self.program,
            queue_size,
            [PAIR],
            thread=thread,
            loss_advice=loss_advice,
            maps=() if rings == "shared" else [ring._open() for ring in make_cpu_rings(self.object, ring_size)],
            rings=rings,
        )

    def __enter__(self) -> Native:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stream.close()
        self.object.close()
        del self.stream, self.program  # references to a fixture outlive it

    def send(self, side: Side, frame: bytes, *, count: int = 1) -> bool:
        """Run a side's program on a frame; say whether the kernel took it. It must not touch the frame."""
        try:
            verdict, data, _ = self.program.test_run(PROGRAMS[side], frame, repeat=count)
        except OSError as error:
            if error.errno == errno.EINVAL and may_be_refused(frame):
                return False
            raise
        assert verdict == NEXT, f"verdict {verdict} on {frame.hex()}"
        assert data == frame, f"the program made {data.hex()} of {frame.hex()}"
        return True

    def event(self, frame: bytes, side: Side = Side.PEER) -> PacketEvent:
        """Give the event of one frame."""
        assert self.send(side, frame), f"the kernel refused {frame.hex()}"
        event = self.stream.read(10.0)
        assert event is not None
        return event

    def differences(self, frames: Iterable[tuple[Side, bytes]]) -> Iterator[str]:
        """Compare the events of frames with the results of the decoder; yield each difference."""
        remaining = iter(frames)
        while batch := list(islice(remaining, BATCH)):
            sent = [(side, frame) for side, frame in batch if self.send(side, frame)]
            for side, frame in sent:
                event = self.stream.read(10.0)
                assert event is not None, "an event is missing"
                actual = event.asdict()
                del actual["timestamp_ns"]
                expected = decode(frame, side=side, pair=PAIR)
                if not _same(actual, expected):
                    yield _tell(side, frame, actual, expected)
            assert self.stream.read(0) is None, "an event too many"

    def check(self, frames: Iterable[tuple[Side, bytes]], note: str = "") -> None:
        """Fail on the first differences between the programs and the decoder."""
        found = list(islice(self.differences(frames), SHOWN))
        if found:
            self._forget()
            raise AssertionError("\n".join([f"the program and the decoder differ {note}".rstrip(), *found]))

    def _forget(self) -> None:
        """Drop the remaining events of a failed batch, so that the next test starts clean."""
        while self.stream.read(0.3) is not None:
            pass


def on_both_sides(frames: Iterable[bytes]) -> Iterator[tuple[Side, bytes]]:
    """Give each frame to both programs."""
    return ((side, frame) for frame in frames for side in PROGRAMS)


def _same(actual: Fields, expected: Fields) -> bool:
    return actual == expected and [*map(type, actual.values())] == [*map(type, expected.values())]


def _tell(side: Side, frame: bytes, actual: Fields, expected: Fields) -> str:
    lines = [f"{side.value}, {len(frame)} bytes: {frame.hex()}"]
    if list(actual) != list(expected):
        return "\n".join([*lines, f"    fields: program {list(actual)}, decoder {list(expected)}"])
    for name, value in expected.items():
        if (type(actual[name]), actual[name]) != (type(value), value):
            lines.append(f"    {name}: program {actual[name]!r}, decoder {value!r}")
    return "\n".join(lines)
