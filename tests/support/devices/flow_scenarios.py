"""What must hold of flow metrics on any wire; run on veth where there is no netkit, and on netkit."""

from __future__ import annotations

import signal
import threading
import time

import pytest

from netkit_bpf import FlowMetrics, FlowTable, Side, TCPFlags
from traffic import ECHO, Wire, connect_and_send, ping, send_datagrams

TCP, UDP = 6, 17
AMOUNT = 1 << 20
ETHERNET = 14
SIZES = [0, 1, 56, 999, 1400]
LARGEST_SEGMENT = 1460  # bytes of TCP in a packet of 1,500
Counts = dict[Side, tuple[int, int]]


def quiet_counts(wire: Wire, metrics: FlowMetrics) -> tuple[Counts, FlowTable]:
    """What both devices sent, packets and bytes, and what was counted at a moment in which nothing was sent."""
    for _ in range(1000):
        before, table = _sent(wire), metrics.snapshot()
        if _sent(wire) == before:
            return before, table
        time.sleep(0.01)
    raise AssertionError("the wire is never quiet")


def _sent(wire: Wire) -> Counts:
    ends = {Side.PRIMARY: wire.pair.primary, Side.PEER: wire.pair.peer}
    statistics = {side: device.statistics for side, device in ends.items()}
    return {side: (each.tx_packets, each.tx_bytes) for side, each in statistics.items()}


def counts_are_those_of_the_devices(wire: Wire) -> None:
    """All that is sent, of whatever kind, in tables that are far too small for it."""
    with FlowMetrics(wire.pair, slots=4) as metrics:
        before, first = quiet_counts(wire, metrics)
        ping(wire.left, wire.right, SIZES)
        send_datagrams(wire.left, wire.right, SIZES)
        for _ in range(10):
            send_datagrams(wire.right, wire.left, SIZES)
        connect_and_send(wire.left, wire.right, AMOUNT)
        connect_and_send(wire.right, wire.left, AMOUNT)
        after, last = quiet_counts(wire, metrics)
    counted = last.since(first).by("side")
    for side in Side:
        sent = tuple(now - then for now, then in zip(after[side], before[side], strict=True))
        assert sent == (counted[side].skbs, counted[side].bytes), side


def a_connection_is_two_flows(wire: Wire) -> None:
    """With its flags, the time of its handshake, and its packets on the wire, which GSO hides from the hooks."""
    with FlowMetrics(wire.pair) as metrics:
        start = time.time_ns()
        ports = connect_and_send(wire.right, wire.left, AMOUNT)
        took = time.time_ns() - start
        table = metrics.snapshot()
    flows = {flow.side: flow for flow in table if flow.protocol == TCP}
    assert {*flows} == {*Side}
    forth, back = flows[Side.PEER], flows[Side.PRIMARY]
    assert (forth.src, forth.dst, forth.src_port, forth.dst_port) == (wire.right.ip, wire.left.ip, *ports)
    assert (back.src, back.dst, back.dst_port, back.src_port) == (wire.left.ip, wire.right.ip, *ports)
    assert forth.tcp_flags is not None
    assert TCPFlags.SYN | TCPFlags.ACK | TCPFlags.FIN | TCPFlags.PSH in forth.tcp_flags
    assert forth.handshake_ns is not None
    assert 0 < forth.handshake_ns < took
    assert back.handshake_ns == forth.handshake_ns
    assert forth.bytes > AMOUNT
    assert forth.packets >= AMOUNT / LARGEST_SEGMENT
    assert forth.packets > forth.skbs
    assert forth.first_ns is not None
    assert forth.last_ns is not None
    assert start - 10**8 < forth.first_ns <= forth.last_ns < start + took + 10**8


def datagrams_and_echoes_are_flows(wire: Wire) -> None:
    with FlowMetrics(wire.pair) as metrics:
        ports = send_datagrams(wire.left, wire.right, SIZES)
        ping(wire.left, wire.right, SIZES)
        table = metrics.snapshot()
    (datagrams,) = [flow for flow in table if flow.protocol == UDP]
    assert (datagrams.side, datagrams.src_port, datagrams.dst_port) == (Side.PRIMARY, *ports)
    assert datagrams.packets == datagrams.skbs == len(SIZES)
    assert datagrams.tcp_flags is datagrams.handshake_ns is None
    request, reply = ECHO[wire.left.ip.version]
    echoes = {flow.icmp_type: flow for flow in table if flow.icmp_type in (request, reply)}
    assert {kind: (flow.side, flow.packets) for kind, flow in echoes.items()} == {
        request: (Side.PRIMARY, len(SIZES)),
        reply: (Side.PEER, len(SIZES)),
    }


def rates_are_of_the_interval(wire: Wire) -> None:
    with FlowMetrics(wire.pair) as metrics:
        send_datagrams(wire.left, wire.right, SIZES)
        thread = threading.Timer(0.1, send_datagrams, (wire.right, wire.left, SIZES))
        thread.start()
        table = metrics.rates(2.0)
        thread.join()
    (moved,) = [flow for flow in table if flow.protocol == UDP]
    assert (moved.side, moved.packets) == (Side.PEER, len(SIZES))
    assert 2 <= table.seconds < 60


def an_interrupt_ends_rates_and_nothing_else(wire: Wire) -> None:
    with FlowMetrics(wire.pair) as metrics:
        thread = threading.Timer(0.2, signal.raise_signal, (signal.SIGINT,))
        thread.start()
        start = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            metrics.rates(100)
        thread.join()
        assert time.monotonic() - start < 50
        send_datagrams(wire.left, wire.right, SIZES)
        assert sum(flow.packets for flow in metrics.snapshot() if flow.protocol == UDP) == len(SIZES)


def what_was_counted_stays_when_the_devices_go(wire: Wire) -> None:
    with FlowMetrics(wire.pair) as metrics:
        send_datagrams(wire.left, wire.right, SIZES)
        wire.pair.primary.netns.run(["ip", "link", "delete", wire.pair.primary.name], check=True)
        assert sum(flow.packets for flow in metrics.snapshot() if flow.protocol == UDP) == len(SIZES)
    assert sum(flow.packets for flow in metrics.snapshot() if flow.protocol == UDP) == len(SIZES)


LAST = what_was_counted_stays_when_the_devices_go
ALL = [
    counts_are_those_of_the_devices,
    a_connection_is_two_flows,
    datagrams_and_echoes_are_flows,
    rates_are_of_the_interval,
    an_interrupt_ends_rates_and_nothing_else,
]
