# SPDX-License-Identifier: MIT
"""With a snaplen each event carries the first bytes of its packet, and takes no more of the ring than these."""

from __future__ import annotations

import pytest

from corpus import all_packets
from decoder import SERVICE_VLAN, TCP, UDP, VLAN, decode
from native import PAIR, PROGRAMS, Native, may_be_refused
from netkit_bpf import Side, _core
from netkit_bpf.events.event import PacketEvent
from packets import chained, ethernet, ipv4, ipv6, options, tagged, tcp, udp
from syscall import behind_a_tag

PACKETS = [frame for group in all_packets().values() for frame in group.values()]
RING_HEADER, EVENT = 8, _core.EVENT_SIZE
TAGS = ((VLAN, 100), (VLAN, 0xA005), (SERVICE_VLAN, 0x123))


def same(event: PacketEvent | None, frame: bytes, side: Side) -> bool:
    """All but the data are what they are without a snaplen."""
    assert event is not None
    fields = event.asdict()
    del fields["timestamp_ns"]
    fields["data"] = None
    return fields == decode(frame, side=side, pair=PAIR)


@pytest.mark.parametrize("snaplen", [1, 12, 14, 15, 17, 54, 96, 1500, 262144])
def test_an_event_carries_the_first_bytes_of_its_packet(snaplen: int) -> None:
    with Native(snaplen=snaplen) as native:
        for number, frame in enumerate(PACKETS):
            side = list(PROGRAMS)[number % 2]
            if native.send(side, frame):
                event = native.stream.read(10.0)
                assert event is not None
                assert event.data == frame[:snaplen], frame.hex()
                assert same(event, frame, side), frame.hex()


def test_every_length_of_a_packet_is_carried_whole() -> None:
    whole = tagged(ipv6(TCP, tcp()))
    with Native(snaplen=200) as native:
        for length in range(15, len(whole)):
            event = native.event(whole[:length])
            assert event.data == whole[:length]


@pytest.mark.parametrize("snaplen", [1, 12, 13, 16, 17, 40, 300])
def test_a_tag_beside_the_packet_is_carried_where_it_is_on_the_wire(snaplen: int) -> None:
    frames = [*PACKETS[::10], tagged(PACKETS[0], 9), ethernet(0x88B5, b"x"), ethernet(0x88B5, bytes(2))]
    with Native(snaplen=snaplen) as native:
        for kind, tci in TAGS:
            with behind_a_tag(native.program.program(PROGRAMS[Side.PRIMARY]), kind, tci) as run:
                for frame in frames:
                    if may_be_refused(frame):
                        continue
                    run(frame)
                    event = native.stream.read(10.0)
                    assert event is not None
                    on_the_wire = tagged(frame, tci & 0xFFF, kind=kind, priority=tci >> 13)
                    assert event.data == on_the_wire[:snaplen]
                    assert (event.vlan_id, event.length) == (tci & 0xFFF, len(frame))


def test_what_is_not_linear_is_carried_too() -> None:
    """Newer kernels put what does not fit a page into fragments of the skb; older ones refuse such a frame here."""
    body = bytes(range(256)) * 220
    for frame in (ipv4(UDP, udp() + body), chained([options(60, 255)] * 3, UDP, udp() + body)):
        with Native(snaplen=65535) as native:
            try:
                native.program.test_run(PROGRAMS[Side.PEER], frame)
            except OSError:
                continue
            event = native.stream.read(10.0)
            assert event is not None
            assert event.data == frame


def test_a_packet_takes_no_more_of_the_ring_than_it_needs() -> None:
    """Nobody reads: the ring is full when its bytes are used up, however large a packet might be."""
    frame = ipv6(UDP, udp())
    size = RING_HEADER + EVENT + -(-len(frame) // 8) * 8
    with Native(snaplen=2000, ring_size=4096, queue_size=4096) as native:
        native.send(Side.PEER, frame, count=1000)
        _, (seen, delivered, lost, pending) = native.stream.stats()
        assert (seen, delivered, lost + pending) == (1000, 0, 1000)
        assert pending >= 4096 // size
        while native.stream.read(0.3):
            pass


@pytest.mark.parametrize("frame", [ipv6(UDP, udp()), tagged(ipv6(UDP, udp()))], ids=["plain", "tagged"])
def test_what_finds_no_room_is_lost_and_counted(frame: bytes) -> None:
    """Whichever program it is that makes the record."""
    with Native(snaplen=64, ring_size=4096, queue_size=4096) as native:
        for side in PROGRAMS:
            native.send(side, frame, count=500)
        stats = native.stream.stats()
        for seen, delivered, lost, pending in stats:
            assert (seen, seen) == (500, delivered + lost + pending)
        assert all(lost > 0 for _, _, lost, _ in stats)
        while native.stream.read(0.3):
            pass
