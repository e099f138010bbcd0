# SPDX-License-Identifier: MIT
"""Captured packets: in the file are those that were sent, and the file says what it lacks."""

from __future__ import annotations

import errno
import io
import json
import os
import resource
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import dpkt
import pytest

from capture_file import CaptureFile
from corpus import all_packets
from decoder import SERVICE_VLAN, TCP, UDP
from elsewhere import need, needs_tcx
from native import PROGRAMS, Native
from netkit_bpf import Monitor, NetNS, Side
from netkit_bpf.events.capture import Capture, Counts, Interface
from packets import ethernet, ipv6, tagged, tcp, udp
from syscall import behind_a_tag
from traffic import Wire, connect_and_send, ping, send_datagrams
from veth import veth_pair, veth_wire

pytestmark = needs_tcx

NAME, DESCRIPTION, RESOLUTION, FILTER = 2, 3, 9, 11  # options of an interface
FLAGS, DROPPED = 2, 4  # of a packet
START, END, RECEIVED, LOST, ACCEPTED, DELIVERED = 2, 3, 4, 5, 6, 8  # of statistics
OUTBOUND = struct.pack("=I", 2)
BOTH = [Interface(0, 0, "nk0", "one"), Interface(0, 1, "nk0p", "other")]


@pytest.fixture
def wire() -> Iterator[Wire]:
    with veth_wire(6) as made:
        yield made


def frame(size: int, seed: int = 0) -> bytes:
    """Build a frame that nobody answers."""
    return ethernet(0x88B5, bytes((size + i + seed) % 256 for i in range(size - 14)))


def send(wire: Wire, *frames: bytes) -> None:
    with wire.left.netns.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.bind(("ve0", 0))
        for each in frames:
            raw.send(each)


def native_capture(native: Native, snaplen: int, count: int) -> CaptureFile:
    file = io.BytesIO()
    assert Capture(native.stream, BOTH, "", snaplen, 0, None).write(file, count, 10.0) == count
    return CaptureFile(file.getvalue())


def test_every_packet_is_in_the_file_as_it_was_sent() -> None:
    frames = [each for group in all_packets().values() for each in group.values()]
    with Native(snaplen=262144) as native:
        sent = [
            (number % 2, each) for number, each in enumerate(frames) if native.send(list(PROGRAMS)[number % 2], each)
        ]
        file = native_capture(native, 262144, len(sent))
    assert [(packet.interface, packet.data) for packet in file.packets] == sent
    assert [packet.length for packet in file.packets] == [len(each) for _, each in sent]
    assert all(packet.options == {FLAGS: OUTBOUND} for packet in file.packets)


@pytest.mark.parametrize("snaplen", [1, 13, 16, 60])
def test_a_tag_beside_the_packet_is_in_the_file(snaplen: int) -> None:
    """It counts for the length that the packet has on the wire, too."""
    with Native(snaplen=snaplen) as native:
        with behind_a_tag(native.program.program(PROGRAMS[Side.PEER]), SERVICE_VLAN, 0x123) as run:
            run(ipv6(UDP, udp()))
        (packet,) = native_capture(native, snaplen, 1).packets
    on_the_wire = tagged(ipv6(UDP, udp()), 0x123, kind=SERVICE_VLAN, priority=0)
    assert (packet.data, packet.length) == (on_the_wire[:snaplen], len(on_the_wire))


def test_the_file_tells_where_the_packets_were_seen_and_when(wire: Wire, tmp_path: Path) -> None:
    path = tmp_path / "both.pcapng"
    expression = "icmp6[icmp6type] = icmp6-echo or icmp6[icmp6type] = icmp6-echoreply"
    before = time.time_ns()
    with Monitor(wire.pair, snaplen=100, filter=expression) as monitor:
        assert ping(wire.left, wire.right, [0, 8, 500]) == 3
        send(wire, frame(60))
        assert monitor.capture(path, timeout=0.5) == 6
        seen, filtered = monitor.stats, monitor.filtered
    after = time.time_ns()

    file = CaptureFile(path)
    assert [each.options[NAME] for each in file.interfaces] == [b"ve0", b"ve1"]
    assert [each.options[DESCRIPTION] for each in file.interfaces] == [
        b"primary of the pair ve0",
        b"peer of the pair ve0",
    ]
    assert all(each.options[RESOLUTION] == b"\x09" for each in file.interfaces)
    assert all(each.options[FILTER] == b"\0" + expression.encode() for each in file.interfaces)
    assert [each.snaplen for each in file.interfaces] == [100, 100]

    assert [packet.interface for packet in file.packets] == [0, 1] * 3
    assert [packet.data[54] for packet in file.packets] == [128, 129] * 3
    assert [packet.length for packet in file.packets] == [62, 62, 70, 70, 562, 562]
    times = [packet.time_ns for packet in file.packets]
    assert before < times[0]
    assert times == sorted(times)
    assert times[-1] < after

    for side, number in enumerate((seen.primary, seen.peer)):
        statistics = file.statistics[side]
        assert before < statistics[START] < times[0] < statistics[END] < after
        assert statistics[RECEIVED] <= 3 + filtered[side]
        assert (statistics[ACCEPTED], statistics[LOST], statistics[DELIVERED]) == (3, 0, 3)
        assert number.seen == 3
    assert filtered.primary >= 1


def test_other_programs_read_the_file(wire: Wire, tmp_path: Path) -> None:
    path = tmp_path / "read.pcapng"
    with Monitor(wire.pair, snaplen=262144, ring_size=1 << 23) as monitor:
        connect_and_send(wire.left, wire.right, 200_000)
        send_datagrams(wire.right, wire.left, [1, 1000])
        written = monitor.capture(path, timeout=0.5)
    packets = [packet.data for packet in CaptureFile(path).packets]
    assert len(packets) == written

    with path.open("rb") as file:
        assert [data for _, data in dpkt.pcapng.Reader(file)] == packets
    need("tcpdump")
    read = subprocess.run(["tcpdump", "-nr", str(path)], capture_output=True, text=True, check=True)
    assert len(read.stdout.splitlines()) == written
    assert "UDP, length 1000" in read.stdout


def tshark(path: Path, *arguments: str) -> str:
    need("tshark")
    done = subprocess.run(["tshark", "-nr", str(path), *arguments], capture_output=True, text=True, check=True)
    return done.stdout


def test_in_tshark_every_packet_is_as_it_was_sent(wire: Wire, tmp_path: Path) -> None:
    path = tmp_path / "tshark.pcapng"
    sent = [frame(size, size) for size in (60, 61, 62, 63, 64, 1000, 1514)]
    with Monitor(
        wire.pair, snaplen=100, filter="ether proto 0x88b5 or (icmp6[0] >= 128 and icmp6[0] <= 129)"
    ) as monitor:
        send(wire, *sent)
        ping(wire.left, wire.right, [56])
        written = monitor.capture(path, timeout=0.5)
    packets = CaptureFile(path).packets
    raw = [packet["_source"]["layers"]["frame_raw"][0] for packet in json.loads(tshark(path, "-T", "jsonraw"))]
    assert [bytes.fromhex(each) for each in raw] == [packet.data for packet in packets]
    assert [packet.data for packet in packets[:-2]] == [each[:100] for each in sent]

    names = ["interface_name", "time_epoch", "len", "cap_len", "packet_flags_direction"]
    said = tshark(path, "-T", "fields", *(word for name in names for word in ("-e", f"frame.{name}")))
    rows = [line.split("\t") for line in said.splitlines()]
    assert len(rows) == written == len(sent) + 2
    assert [row[0] for row in rows] == ["ve0"] * len(sent) + ["ve0", "ve1"]
    assert [row[1] for row in rows] == [f"{each.time_ns // 10**9}.{each.time_ns % 10**9:09}" for each in packets]
    assert [(int(row[2]), int(row[3])) for row in rows] == [(each.length, len(each.data)) for each in packets]
    assert {int(row[4], 16) for row in rows} == {2}  # outbound


def test_of_several_pairs_each_side_is_an_interface(tmp_path: Path) -> None:
    """Losses are counted for a side of all pairs together, so that the file does not tell of them."""
    path = tmp_path / "pairs.pcapng"
    with NetNS.create() as here, NetNS.create() as there, NetNS.create() as elsewhere, NetNS.create() as yonder:
        with veth_pair(here, there) as first, veth_pair(elsewhere, yonder) as second:
            with Monitor(first, second, snaplen=60, sides=["primary"], filter="ether proto 0x88b5") as monitor:
                for netns, seed in ((here, 1), (elsewhere, 2)):
                    with netns.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
                        raw.bind(("ve0", 0))
                        raw.send(frame(60, seed))
                assert monitor.capture(path, count=2) == 2
    file = CaptureFile(path)
    assert len(file.interfaces) == 2
    assert {packet.interface: packet.data for packet in file.packets} == {0: frame(60, 1), 1: frame(60, 2)}
    assert file.statistics == {}


class Flooding(io.BytesIO):
    """A file that lets packets be lost while the first of them is written."""

    def __init__(self, native: Native) -> None:
        super().__init__()
        self._native = native
        self._blocks = 0

    def write(self, blocks: object) -> int:
        self._blocks += 1
        if self._blocks == 2:  # the first holds the interfaces
            self._native.send(Side.PEER, ipv6(TCP, tcp()), count=1000)
        return super().write(blocks)  # type: ignore[arg-type]


def test_the_file_tells_before_which_packet_some_were_lost() -> None:
    """And in all."""
    with Native(ring_size=4096, queue_size=4096, snaplen=200) as native:
        native.send(Side.PEER, ipv6(UDP, udp()), count=2000)
        lost_before = native.stream.stats()[1][2]
        assert lost_before > 0
        file = Flooding(native)
        capture = Capture(
            native.stream, BOTH, "", 200, 0, lambda: [Counts(side[0], side[2], 0) for side in native.stream.stats()]
        )
        written = capture.write(file, None, 0.5)
        _, (seen, delivered, lost, pending) = native.stream.stats()
        assert (seen, pending) == (3000, 0)
        assert written == delivered
    read = CaptureFile(file.getvalue())
    dropped = [
        (i, struct.unpack("=Q", packet.options[DROPPED])[0])
        for i, packet in enumerate(read.packets)
        if DROPPED in packet.options
    ]
    assert len(dropped) >= 1
    assert dropped[0][0] > 0  # none since the capture began
    assert sum(number for _, number in dropped) == lost - lost_before
    assert read.statistics[1][LOST] == lost
    assert read.statistics[1][DELIVERED] == written
    assert read.statistics[0][RECEIVED] == 0


class Pouring(io.BytesIO):
    """A file that lets packets of a monitor be lost while the first of them is written."""

    def __init__(self, wire: Wire) -> None:
        super().__init__()
        self._wire = wire
        self._blocks = 0

    def write(self, blocks: object) -> int:
        self._blocks += 1
        if self._blocks == 2:  # the first holds the interfaces
            send(self._wire, *[frame(60)] * 500)
        return super().write(blocks)  # type: ignore[arg-type]


def test_a_monitor_tells_the_file_of_each_packet_that_was_lost(wire: Wire) -> None:
    """Those lost before the capture began in the statistics alone."""
    with Monitor(
        wire.pair, sides=["primary"], snaplen=60, ring_size=4096, queue_size=4096, filter="ether proto 0x88b5"
    ) as monitor:
        send(wire, *[frame(60)] * 500)
        before = monitor.stats.primary.lost
        assert before > 0
        with pytest.warns(RuntimeWarning, match="lost"):
            monitor.capture(file := Pouring(wire), timeout=0.5)
        lost = monitor.stats.primary.lost
    read = CaptureFile(file.getvalue())
    told = [struct.unpack("=Q", each.options[DROPPED])[0] for each in read.packets if DROPPED in each.options]
    assert sum(told) == lost - before > 0
    assert read.statistics[0][LOST] == lost


def test_a_capture_ends_when_the_monitor_is_closed(wire: Wire, tmp_path: Path) -> None:
    path = tmp_path / "closed.pcapng"
    with Monitor(wire.pair, sides=["primary"], snaplen=60, filter="ether proto 0x88b5") as monitor:
        send(wire, frame(60), frame(61))

        def close_when_written() -> None:
            while not path.exists() or len(CaptureFile(path).packets) < 2:
                time.sleep(0.01)
            monitor.close()

        closer = threading.Thread(target=close_when_written)
        closer.start()
        assert monitor.capture(path) == 2
        closer.join()
    assert CaptureFile(path).statistics[0][DELIVERED] == 2
    with pytest.raises(ValueError, match="the monitor is closed"):
        monitor.capture(path)


def test_a_capture_ends_after_so_many_packets_and_leaves_the_rest(wire: Wire) -> None:
    frames = [frame(60, seed) for seed in range(10)]
    with Monitor(wire.pair, sides=["primary"], snaplen=60, filter="ether proto 0x88b5") as monitor:
        send(wire, *frames)
        files = [io.BytesIO(), io.BytesIO()]
        assert [monitor.capture(file, count=4) for file in files] == [4, 4]
        rest = [event.data for event in monitor.events(timeout=0.5)]
    written = [packet.data for file in files for packet in CaptureFile(file.getvalue()).packets]
    assert written + rest == frames


def test_a_capture_ends_after_its_duration_though_packets_keep_coming(wire: Wire) -> None:
    stop = threading.Event()

    def keep_sending() -> None:
        while not stop.is_set():
            send(wire, *[frame(60)] * 100)

    with Monitor(wire.pair, sides=["primary"], snaplen=60) as monitor:
        thread = threading.Thread(target=keep_sending)
        thread.start()
        start = time.monotonic()
        try:
            written = monitor.capture(io.BytesIO(), duration=0.3)
        finally:
            stop.set()
            thread.join()
        assert written > 0
        assert 0.3 <= time.monotonic() - start < 20


def test_packets_are_in_the_file_as_soon_as_they_are_read(wire: Wire) -> None:
    out, into = os.pipe()
    with Monitor(wire.pair, sides=["primary"], snaplen=60, filter="ether proto 0x88b5") as monitor:
        with os.fdopen(into, "wb") as file:
            writer = threading.Thread(target=monitor.capture, args=(file,), kwargs={"count": 2})
            writer.start()
            content = b""
            for seed in (1, 2):
                send(wire, frame(60, seed))
                while not CaptureFile(content).packets or CaptureFile(content).packets[-1].data != frame(60, seed):
                    content += os.read(out, 1 << 16)
            writer.join()
    os.close(out)


def test_a_full_disk_is_said(wire: Wire) -> None:
    with (
        Monitor(wire.pair, snaplen=60) as monitor,
        pytest.raises(OSError, match=r"^\[Errno 28\] write /dev/full: No space"),
    ):
        monitor.capture("/dev/full")


def test_a_file_that_cannot_grow_keeps_whole_packets(wire: Wire, tmp_path: Path) -> None:
    """The write that fails has begun: what it left of a packet is cut off."""
    path = tmp_path / "limited.pcapng"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Monitor(wire.pair, sides=["primary"], snaplen=1514, filter="ether proto 0x88b5") as monitor:
        send(wire, *[frame(1000)] * 10)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, hard))
        try:
            with pytest.raises(OSError, match=f"write {path}: File too large") as caught:
                monitor.capture(path, timeout=5.0)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.errno == errno.EFBIG
    file = CaptureFile(path)
    assert len(file.interfaces) == 1
    assert all(packet.data == frame(1000) for packet in file.packets)


def test_a_reader_that_has_gone_ends_the_capture(wire: Wire) -> None:
    out, into = os.pipe()
    os.close(out)
    with Monitor(wire.pair, snaplen=60) as monitor, os.fdopen(into, "wb", buffering=0) as file:
        with pytest.raises(BrokenPipeError):
            monitor.capture(file)


def test_what_no_capture_can_be_made_of_is_refused(wire: Wire, tmp_path: Path) -> None:
    path = tmp_path / "none.pcapng"
    with Monitor(wire.pair) as monitor, pytest.raises(ValueError, match="make it with a snaplen"):
        monitor.capture(path)
    with Monitor(wire.pair, snaplen=60) as monitor:
        for count in (0, -1):
            with pytest.raises(ValueError, match="count must be 1 to"):
                monitor.capture(path, count=count)
        for target in (5, None, io.StringIO()):
            with pytest.raises(TypeError, match="target must be a path or a binary file"):
                monitor.capture(target)  # type: ignore[arg-type]
        with pytest.raises(FileNotFoundError):
            monitor.capture(tmp_path / "nowhere" / "file")
    assert not path.exists()
