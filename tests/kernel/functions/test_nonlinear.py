"""Packets whose headers are not linear: BPF_PROG_TEST_RUN cannot make those, a packet socket can."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from corpus import all_packets
from decoder import decode
from elsewhere import needs_tcx
from netkit_bpf import Monitor, Side
from traffic import Wire
from veth import veth_wire

pytestmark = needs_tcx

# Of a frame of more than a page, af_packet(7) puts only the Ethernet header into the linear part of the skb.
SIZE = 5000


@pytest.fixture
def wire() -> Iterator[Wire]:
    with veth_wire(6) as made:
        for end, device in ((made.left, "ve0"), (made.right, "ve1")):
            end.netns.run(["ip", "link", "set", device, "mtu", "9000"], check=True)
        yield made


def test_headers_beyond_the_linear_part_are_read_all_the_same(wire: Wire) -> None:
    frames = [packet.ljust(SIZE, b"\xa5") for corpus in all_packets().values() for packet in corpus.values()]
    assert len(frames) > 100
    with (
        Monitor(wire.pair, sides=["primary"]) as monitor,
        wire.left.netns.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw,
    ):
        raw.bind(("ve0", 0))
        for frame in frames:
            raw.send(frame)
            # what the kernel sends of its own, a neighbour discovery perhaps, is short
            event = next(event for event in monitor.events(timeout=10.0) if event.length == SIZE)
            actual = event.asdict()
            del actual["timestamp_ns"]
            assert actual == decode(frame, side=Side.PRIMARY, pair="ve0"), frame.hex()[:200]
