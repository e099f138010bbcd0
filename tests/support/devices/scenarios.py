"""What must be true of a monitor on any wire; run on netkit, and on veth where there is no netkit."""

from __future__ import annotations

import pytest

from netkit_bpf import Monitor, PacketEvent, Side
from traffic import ACK, ECHO, FIN, SYN, TIMEOUT, Wire, collect, connect_and_send, ping, send_datagrams

SIZES = [0, 1, 56, 999, 1400]
ICMP = {4: 1, 6: 58}
TCP, UDP = 6, 17
IP_HEADER = {4: 20, 6: 40}
ETHERNET = 14


def _check_frame(event: PacketEvent, wire: Wire, payload: int, hop_limit: int = 64) -> None:
    """Everything that is the same in all packets of the family."""
    sender, receiver = wire.seen_from(event.side)
    version = sender.ip.version
    assert (event.src, event.dst) == (sender.ip, receiver.ip)
    assert event.family == version
    assert event.ethertype == (0x86DD if version == 6 else 0x0800)
    assert event.pair_name == wire.pair.primary.name
    assert event.payload_len == payload
    assert event.length == ETHERNET + IP_HEADER[version] + payload
    assert event.hop_limit == hop_limit
    assert event.next_header == event.protocol
    assert event.fragment is None


def echo_appears_exactly_once(wire: Wire) -> None:
    """Every request on the sender's side, every reply on the other, and nothing else of that kind."""
    request, reply = ECHO[wire.left.ip.version]
    with Monitor(wire.pair) as monitor:
        assert ping(wire.left, wire.right, SIZES, hop_limit=37) == len(SIZES)
        events = [event for event in collect(monitor) if event.icmp_type in (request, reply)]
    for side, kind in ((Side.PRIMARY, request), (Side.PEER, reply)):
        mine = [event for event in events if event.side is side]
        assert [event.icmp_type for event in mine] == [kind] * len(SIZES)
        for event, size in zip(mine, SIZES, strict=True):
            _check_frame(event, wire, 8 + size, 37 if kind == request else 64)
            assert event.icmp_code == 0
            assert event.src_port is None
    sent = {(event.icmp_id, event.icmp_seq): event for event in events if event.icmp_type == request}
    replies = [event for event in events if event.icmp_type == reply]
    round_trips = [event.timestamp_ns - sent.pop((event.icmp_id, event.icmp_seq)).timestamp_ns for event in replies]
    assert not sent
    assert all(0 < nanoseconds < TIMEOUT * 10**9 for nanoseconds in round_trips)


def datagrams_appear_exactly_once(wire: Wire) -> None:
    """Each datagram, in order, with its ports and its length, on the sender's side alone."""
    for sender, receiver, side in ((wire.left, wire.right, Side.PRIMARY), (wire.right, wire.left, Side.PEER)):
        with Monitor(wire.pair) as monitor:
            ports = send_datagrams(sender, receiver, SIZES)
            events = [event for event in collect(monitor) if event.protocol == UDP]
        assert [event.side for event in events] == [side] * len(SIZES)
        for event, size in zip(events, SIZES, strict=True):
            _check_frame(event, wire, 8 + size)
            assert (event.src_port, event.dst_port) == ports


def a_connection_appears_whole(wire: Wire) -> None:
    """The handshake once each way, the data, and the end of both directions."""
    _check_connection(wire, Monitor(wire.pair))


def a_connection_is_in_order_whatever_cpu_sends(wire: Wire) -> None:
    """From rings of which each CPU has its own."""
    _check_connection(wire, Monitor(wire.pair, rings="ordered"))


def _check_connection(wire: Wire, opened: Monitor) -> None:
    amount = 1000
    with opened as monitor:
        client_port, server_port = connect_and_send(wire.left, wire.right, amount)
        events = [event for event in collect(monitor) if event.protocol == TCP]
    times = [event.timestamp_ns for event in events]
    assert times == sorted(times)
    for event in events:
        from_client = event.side is Side.PRIMARY
        ports = (client_port, server_port) if from_client else (server_port, client_port)
        assert (event.src_port, event.dst_port) == ports
        _check_frame(event, wire, event.payload_len or 0)
    flags = [(event.side, event.tcp_flags) for event in events]
    assert flags[:3] == [(Side.PRIMARY, SYN), (Side.PEER, SYN | ACK), (Side.PRIMARY, ACK)]
    assert sum(bool((event.tcp_flags or 0) & SYN) for event in events) == 2
    assert sorted(side for side, flag in flags if (flag or 0) & FIN) == [Side.PEER, Side.PRIMARY]
    # 32 bytes of TCP header with its timestamps; the handshake's are longer
    data = [event for event in events if event.side is Side.PRIMARY and (event.payload_len or 0) > 40]
    assert sum((event.payload_len or 0) - 32 for event in data) == amount


def a_flood_is_accounted_for(wire: Wire) -> None:
    """With a ring of one page and nobody reading, packets are lost, counted, and none is in doubt."""
    with Monitor(wire.pair, ring_size=4096, queue_size=4096) as monitor:
        for _ in range(5):
            send_datagrams(wire.left, wire.right, [100] * 100)
            send_datagrams(wire.right, wire.left, [100] * 100)
        quiet = monitor.stats
        for side in quiet:
            assert side.seen >= 500
            assert side.seen == side.delivered + side.lost + side.pending
        assert quiet.total.lost > 0
        assert quiet.total.delivered == 0
        with pytest.warns(RuntimeWarning, match="loses packets.*given once"):
            delivered = len(collect(monitor))
        final = monitor.stats
    assert delivered >= quiet.total.pending > 0  # the kernel may send something of its own meanwhile
    assert final.total.pending == 0
    assert final.total.delivered == delivered
    assert monitor.stats.total.delivered == delivered  # still readable after close


ALL = [
    echo_appears_exactly_once,
    datagrams_appear_exactly_once,
    a_connection_appears_whole,
    a_connection_is_in_order_whatever_cpu_sends,
    a_flood_is_accounted_for,
]
