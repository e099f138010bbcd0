"""Capture files of any kind as events: pcap and pcapng, in both byte orders, cut, damaged, of other links."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import pytest

from conversation import frames, handshake, pcap
from decoder import decode
from netkit_bpf import CaptureFile, EventBatch, Filter, PacketEvent, Side
from netkit_bpf.events.files.batch_file import BatchFile
from netkit_bpf.events.files.rotated_file import FilesFullError, RotatedFile

PACKETS = list(frames().values())
START = 1_700_000_000
INTERFACE = (1, struct.pack("<HHI", 1, 0, 0))  # of Ethernet


def events_of(content: bytes) -> list[PacketEvent]:
    with CaptureFile(io.BytesIO(content)) as file:
        return [event for batch in file for event in batch]


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    body += bytes(-len(body) % 4)
    size = struct.pack(f"{order}I", len(body) + 12)
    return struct.pack(f"{order}I", kind) + size + body + size


def pcapng(*blocks: tuple[int, bytes], order: str = "<") -> bytes:
    section = struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1)
    return block(0x0A0D0D0A, section, order) + b"".join(block(kind, body, order) for kind, body in blocks)


def enhanced(
    data: bytes, time: int, *, interface: int = 0, order: str = "<", flags: int | None = None
) -> tuple[int, bytes]:
    body = struct.pack(f"{order}IIIII", interface, time >> 32, time & 0xFFFFFFFF, len(data), len(data)) + data
    body += bytes(-len(body) % 4)
    if flags is not None:
        body += struct.pack(f"{order}HHII", 2, 4, flags, 0)
    return 6, body


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("magic", "unit"), [(0xA1B2C3D4, 1000), (0xA1B23C4D, 1)])
def test_a_pcap_file_gives_each_packet_with_its_time(order: str, magic: int, unit: int) -> None:
    found = events_of(pcap(PACKETS, order=order, magic=magic))
    assert [event.data for event in found] == PACKETS
    assert [event.timestamp_ns for event in found] == [
        (START + number) * 10**9 + number * 1001 * unit for number in range(len(PACKETS))
    ]
    assert {event.pair_name for event in found} == {""}


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_pcapng_file_gives_each_packet_with_its_time_and_direction(order: str) -> None:
    micro = (1, struct.pack(f"{order}HHI", 1, 0, 0))
    halves = (1, struct.pack(f"{order}HHIHHBxxxHH", 1, 0, 0, 9, 1, 0x81, 0, 0))
    blocks = [micro, halves, enhanced(PACKETS[0], 5, order=order), (5, bytes(12)),
              enhanced(PACKETS[1], 7, interface=1, order=order, flags=1)]  # fmt: skip
    found = events_of(pcapng(*blocks, order=order))
    assert [event.timestamp_ns for event in found] == [5000, 3_500_000_000]
    assert [event.side for event in found] == ["primary", "peer"]
    assert [event.data for event in found] == PACKETS[:2]


def test_what_was_written_here_has_its_pair_and_its_side_again() -> None:
    made = [frame for frame in PACKETS if frame in PACKETS[:5]]
    with CaptureFile(io.BytesIO(pcap(made))) as file:
        (batch,) = file
    (rows, data, _) = batch.__reduce__()[1]
    named = EventBatch._of(type(batch._rows).from_rows(rows, data, ("nk7",)))
    target = io.BytesIO()
    with BatchFile(target, "tcp") as written:
        written.write(named)
        written.write(named[:2])
    found = events_of(target.getvalue())
    assert found == [*named, *named[:2]]
    assert {event.pair_name for event in found} == {"nk7"}


def test_the_parser_is_that_of_the_programs() -> None:
    for event, frame in zip(events_of(pcap(PACKETS)), PACKETS, strict=True):
        expected = decode(frame, side=Side.PRIMARY, pair="") | {"data": frame}
        assert event.asdict() == expected | {"timestamp_ns": event.timestamp_ns}


def test_a_cut_packet_has_its_length_and_what_is_left_of_its_headers() -> None:
    (event,) = events_of(pcap([PACKETS[0]], cut=40))
    assert (event.length, event.src_port, event.dst_port) == (len(PACKETS[0]), 51000, 443)
    assert (event.tcp_flags, event.tcp_seq, event.tcp_ack, event.tcp_window) == (None,) * 4


@pytest.mark.parametrize(("link", "header"), [(101, b""), (228, b""), (113, bytes(14) + b"\x08\0"),
                                              (276, b"\x08\0" + bytes(18)), (0, bytes(4))])  # fmt: skip
def test_other_links_become_ethernet(link: int, header: bytes) -> None:
    frame = handshake(bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2]))[0]
    (event,) = events_of(pcap([header + frame[14:]], link=link))
    assert event.data == bytes(12) + frame[12:]
    assert (event.src_port, event.length) == (51000, len(frame))


@pytest.mark.parametrize(("link", "header"), [(113, ">HHH8x"), (276, ">H6xHBx8x")])
def test_cooked_packets_say_what_was_received(link: int, header: str) -> None:
    rest = handshake(bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2]))[0][14:]

    def cooked(kind: int) -> bytes:
        if link == 113:
            return struct.pack(header, kind, 1, 6) + b"\x08\0" + rest
        return struct.pack(header, 0x0800, 1, kind) + rest

    found = events_of(pcap([cooked(kind) for kind in range(5)], link=link))
    assert [event.side for event in found] == ["peer"] * 4 + ["primary"]
    assert {event.src_port for event in found} == {51000}


def test_a_file_of_another_program_says_as_much_when_it_is_written_again() -> None:
    content = pcapng(INTERFACE, enhanced(PACKETS[0], 0), enhanced(PACKETS[1], 0, flags=1))
    target = io.BytesIO()
    with CaptureFile(io.BytesIO(content)) as file:
        (batch,) = file
        batch.to_pcapng(target)
    assert [event.side for event in events_of(target.getvalue())] == ["primary", "peer"]
    assert struct.pack("=HHI", 2, 4, 1) in target.getvalue()  # it was received
    assert struct.pack("=HHI", 2, 4, 2) not in target.getvalue()  # of the other one nobody knows
    assert b" (peer)" not in target.getvalue()


def test_blocks_of_every_kind_give_their_packets() -> None:
    """Those of the first drafts, and simple ones, which have no length of what was captured."""
    old = struct.pack("<HHIIII", 0, 7, 0, 5, len(PACKETS[0]), len(PACKETS[0])) + PACKETS[0]
    simple = struct.pack("<I", len(PACKETS[1])) + PACKETS[1][:33]
    interface = (1, struct.pack("<HHI", 1, 0, 33))
    first, second = events_of(pcapng(interface, (2, old), (3, simple)))
    assert (first.data, first.timestamp_ns) == (PACKETS[0], 5000)
    assert (second.data, second.length) == (PACKETS[1][:33], len(PACKETS[1]))


def test_an_option_without_a_value_is_as_good_as_none() -> None:
    resolution = (1, struct.pack("<HHIHHHH", 1, 0, 0, 9, 0, 0, 0))
    assert [event.timestamp_ns for event in events_of(pcapng(resolution, enhanced(PACKETS[0], 5)))] == [5000]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "ends within its first bytes"),
        (b"hello, world", "neither a pcapng nor a pcap file"),
        (pcap(PACKETS)[:-1], "ends within a packet"),
        (pcap(PACKETS[:1]) + bytes(3), "ends within the header of a packet"),
        (pcap([])[:20], "ends within its header"),
        (pcap([]) + struct.pack("<IIII", 0, 0, 1 << 30, 1 << 30), "is damaged: 1073741824 bytes in one piece"),
        (pcap([PACKETS[0]], link=105), "link type 105, not of Ethernet: tcpdump -r reads it"),
        (pcapng(enhanced(b"x", 0)), "is damaged: there is no interface 0"),
        (pcapng() + struct.pack("<III", 6, 13, 0), "is damaged: a block of 13 bytes"),
        (
            pcapng((1, struct.pack("<HHI", 1, 0, 0)), (6, struct.pack("<IIIII", 0, 0, 0, 99, 99))),
            "a packet of 99 bytes",
        ),
        (pcapng((1, bytes(4))), "is damaged: an interface in a block of 4 bytes"),
        *((pcapng(INTERFACE, (kind, b"")), "is damaged: a packet in a block of 0 bytes") for kind in (2, 3, 6)),
    ],
)
def test_a_damaged_file_is_refused_by_what_is_wrong(content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        events_of(content)


def test_what_comes_before_the_damage_is_given() -> None:
    with CaptureFile(io.BytesIO(pcap(PACKETS)[:-1])) as file:
        batches = iter(file)
        assert [event.data for event in next(batches)] == PACKETS[:-1]
        with pytest.raises(ValueError, match="ends within a packet"):
            next(batches)


def test_damage_at_any_place_is_an_error_or_other_packets() -> None:
    whole = pcapng(INTERFACE, *(enhanced(frame, 1) for frame in PACKETS[:3]))
    for place in range(len(whole)):
        for value in (0, 0xFF):
            try:
                events_of(whole[:place] + bytes([value]) + whole[place + 1 :])
            except ValueError:
                continue


def test_a_filter_chooses_from_a_batch_as_libpcap_does() -> None:
    with CaptureFile(io.BytesIO(pcap(PACKETS))) as file:
        (batch,) = file
    chosen = batch.matching(Filter("tcp port 443 and ip6"))
    assert [event.data for event in chosen] == [
        event.data for event in batch if event.family == 6 and 443 in (event.src_port, event.dst_port)
    ]
    assert len(chosen) > 5


def test_files_of_a_size_are_whole_and_go_in_a_circle(tmp_path: Path) -> None:
    with CaptureFile(io.BytesIO(pcap(PACKETS * 4))) as file:
        (batch,) = file
    with RotatedFile(tmp_path / "x", size=4000, files=3) as rotated, BatchFile(rotated) as written:  # type: ignore[arg-type]
        written.write(batch)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["x0", "x1", "x2"]
    contents = [events_of(each.read_bytes()) for each in sorted(tmp_path.iterdir())]
    times = sorted(event.timestamp_ns for events in contents for event in events)
    assert times[-1] == batch[-1].timestamp_ns
    assert len(times) < len(batch)


def test_files_of_a_size_are_numbered_from_the_second_on(tmp_path: Path) -> None:
    with CaptureFile(io.BytesIO(pcap(PACKETS * 2))) as file:
        (batch,) = file
    with RotatedFile(tmp_path / "x", size=4000) as rotated, BatchFile(rotated) as written:  # type: ignore[arg-type]
        written.write(batch)
    names = ["x", *(f"x{number}" for number in range(1, len(list(tmp_path.iterdir()))))]
    assert len(names) > 2
    found = [event for name in names for event in events_of((tmp_path / name).read_bytes())]
    assert [event.data for event in found] == PACKETS * 2


def test_files_of_a_time_are_named_by_it_and_end_after_so_many(tmp_path: Path) -> None:
    with CaptureFile(io.BytesIO(pcap(PACKETS[:1]))) as file:
        (batch,) = file
    now = 1_700_000_000.0
    rotated = RotatedFile(tmp_path / "at-%s", seconds=60, files=2, clock=lambda: now)
    with rotated, BatchFile(rotated) as written:  # type: ignore[arg-type]
        written.write(batch)
        now += 61
        written.write(batch)
        now += 61
        with pytest.raises(FilesFullError, match="2 files were written"):
            written.write(batch)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["at-1700000000", "at-1700000061"]
    assert [len(events_of(each.read_bytes())) for each in tmp_path.iterdir()] == [1, 1]
