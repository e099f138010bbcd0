# SPDX-License-Identifier: MIT
"""A monitor with a snaplen: its events carry what was sent."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from elsewhere import needs_tcx
from netkit_bpf import Monitor, NetkitPair
from packets import ethernet
from traffic import Wire, collect, connect_and_send
from veth import veth_wire

pytestmark = needs_tcx


@pytest.fixture
def wire() -> Iterator[Wire]:
    with veth_wire(6) as made:
        yield made


def test_a_monitor_carries_what_was_sent(wire: Wire) -> None:
    sizes = [60, 61, 64, 100, 1000, 1514]
    frames = [ethernet(0x88B5, bytes((size + i) % 256 for i in range(size - 14))) for size in sizes]
    with (
        Monitor(wire.pair, sides=["primary"], snaplen=1000, filter="ether proto 0x88b5") as monitor,
        wire.left.netns.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw,
    ):
        raw.bind(("ve0", 0))
        for frame in frames:
            raw.send(frame)
        events = collect(monitor)
    assert [event.data for event in events] == [frame[:1000] for frame in frames]
    assert [event.length for event in events] == sizes


def test_segments_not_yet_cut_are_carried_whole(wire: Wire) -> None:
    """A TCP packet before segmentation is larger than the wire's."""
    amount = 300_000
    with Monitor(wire.pair, sides=["primary"], snaplen=100_000, ring_size=1 << 22, filter="tcp") as monitor:
        connect_and_send(wire.left, wire.right, amount)
        events = collect(monitor)
    assert max(event.length for event in events) > 1514
    assert all(event.data is not None and len(event.data) == event.length for event in events)
    assert sum(len(event.data or b"") - 14 - 40 - 32 for event in events if (event.payload_len or 0) > 40) == amount


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"snaplen": -1}, "snaplen must be 0 to 262144, not -1"),
        ({"snaplen": 262145}, "snaplen must be 0 to 262144, not 262145"),
        ({"snaplen": 5000, "ring_size": 4096}, "ring_size must have room for a packet of 5000 bytes, not be 4096"),
    ],
)
def test_a_bad_snaplen_is_refused(wire: Wire, options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        open_monitor(wire.pair, options)


def open_monitor(pair: NetkitPair, options: dict[str, int]) -> None:
    Monitor(pair, **options)  # type: ignore[arg-type]
