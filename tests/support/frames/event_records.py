"""Packet events made from records, without a kernel."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from ipaddress import IPv6Address
from typing import Any

from netkit_bpf import EventBatch, PacketEvent, _core

IP, PROTOCOL, PORTS, TCP, ICMP, FRAGMENT, VLAN, _, ECHO = (1 << bit for bit in range(9))
LAYOUT = "=Q16s16sIIIII11HBBBBBx"  # struct nk_event


def event(*, data: bytes = b"", **changes: object) -> PacketEvent:
    """A TCP segment over IPv6, with changes, and with what was captured of it."""
    values: dict[str, object] = {
        "timestamp": 1_700_000_000_123_456_789,
        "src": IPv6Address("fd00::2").packed,
        "dst": IPv6Address("fd00::1").packed,
        "length": 118,
        "payload_len": 64,
        "ip_word": 6 << 28 | 0xB8 << 20 | 0x12345,
        "tcp_seq": 0xFEDCBA98,
        "tcp_ack": 0x89ABCDEF,
        "src_port": 40000,
        "dst_port": 443,
        "gso_segs": 0,
        "ethertype": 0x86DD,
        "fragment": 0,
        "vlan_tci": 0,
        "tcp_window": 64240,
        "icmp_id": 0,
        "icmp_seq": 0,
        "pair": 0,
        "flags": IP | PROTOCOL | PORTS | TCP,
        "next_header": 6,
        "protocol": 6,
        "hop_limit": 64,
        "tcp_flags": 0x12,
        "side": 1,
    }
    assert changes.keys() <= values.keys()
    return PacketEvent._from_record(struct.pack(LAYOUT, *(values | changes).values()) + data, "nk0")


TWELVE = b"0123456789AB"
DISCARDED = 1 << 30
HOUR = 3600 * 10**9
V4 = {"src": bytes([192, 0, 2, 1]) + bytes(12), "dst": bytes([192, 0, 2, 2]) + bytes(12), "ip_word": 4 << 28 | 46 << 20}
ARP = {"src": bytes(16), "dst": bytes(16), "ip_word": 0, "ethertype": 0x0806, "flags": 0, "next_header": 0}
NO_TCP = {
    "src_port": 0, "dst_port": 0, "tcp_flags": 0, "tcp_seq": 0, "tcp_ack": 0, "tcp_window": 0, "protocol": 0
}  # fmt: skip
ECHO_REQUEST = {"src_port": 128, "dst_port": 3, "protocol": 58, "icmp_id": 0xCAFE, "icmp_seq": 0xF00D}
KINDS: dict[str, dict[str, Any]] = {
    "TCP over IPv6": {},
    "TCP over IPv4": V4,
    "ICMPv6": {**NO_TCP, **ECHO_REQUEST, "flags": IP | PROTOCOL | ICMP | ECHO},
    "a tagged packet": {"vlan_tci": 0xB02A, "flags": IP | PROTOCOL | PORTS | TCP | VLAN},
    "a first fragment": {"fragment": 1, "flags": IP | PROTOCOL | PORTS | TCP | FRAGMENT},
    "a later fragment": {**NO_TCP, "fragment": 1448, "flags": IP | PROTOCOL | FRAGMENT},
    "a cut chain": {**NO_TCP, "flags": IP},
    "ARP": {**NO_TCP, **ARP, "payload_len": 0, "hop_limit": 0, "length": 42, "side": 0},
    "all bits set": {"src": b"\xff" * 16, "dst": b"\xff" * 16, "length": 0xFFFFFFFF, "gso_segs": 0xFFFF, "pair": 1},
}


def events(count: int = 9) -> list[PacketEvent]:
    """Events of all kinds in turn, a second from each to the next."""
    kinds = list(KINDS.values())
    first = 1_700_000_000_200_000_000
    return [event(**{"gso_segs": 1, "timestamp": first + i * 10**9} | kinds[i % len(kinds)]) for i in range(count)]


def payload(made: PacketEvent) -> bytes:
    """An event as the program writes it."""
    written: Any = made.__reduce__()[1]
    assert isinstance(written[0], bytes)
    return written[0]


def record(made: PacketEvent, *, flag: int = 0, data: bytes = b"") -> bytes:
    """An event as it stands in the ring, with room for what is captured."""
    written = payload(made) + data
    return struct.pack("=II", len(written) | flag, 7) + written + bytes(-len(written) % 8)


def batch(made: Sequence[PacketEvent], pairs: tuple[str, ...] = ("nk0", "nk1")) -> EventBatch:
    return EventBatch._of(_core.EventBatch.from_records(b"".join(map(record, made)), False, 0, pairs))


def named(made: PacketEvent, pairs: tuple[str, ...] = ("nk0", "nk1")) -> PacketEvent:
    """The event as one of its pair: event() calls all pairs nk0."""
    return PacketEvent._from_record(payload(made), pairs[struct.unpack("=H", payload(made)[78:80])[0]])
