# SPDX-License-Identifier: MIT
"""Builds frames, header by header."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address

import dpkt

from decoder import (
    AUTHENTICATION,
    DESTINATION,
    FRAGMENT,
    HOP_BY_HOP,
    IPV4,
    IPV6,
    ROUTING,
    VLAN,
)

ESP, NO_NEXT_HEADER = 50, 59
NAMES = {
    HOP_BY_HOP: "hop-by-hop",
    ROUTING: "routing",
    FRAGMENT: "fragment",
    DESTINATION: "options",
    AUTHENTICATION: "ah",
}
SRC4, DST4 = IPv4Address("192.0.2.1").packed, IPv4Address("198.51.100.2").packed
SRC6, DST6 = IPv6Address("2001:db8::1").packed, IPv6Address("2001:db8:1::2").packed
ROUTER_ALERT = bytes.fromhex("0502 0000 0100")  # RFC 2711, and PadN
PAYLOAD = bytes(range(0xE0, 0xF0))

Extension = tuple[int, bytes]  # its number, and all of it after the next-header octet


def ethernet(ethertype: int, payload: bytes) -> bytes:
    """Build a frame."""
    return b"\x02" * 6 + b"\x02\0\0\0\0\1" + struct.pack("!H", ethertype) + payload


def tagged(frame: bytes, vlan_id: int = 100, *, kind: int = VLAN, priority: int = 5) -> bytes:
    """Put a VLAN tag outside those that a frame has."""
    return frame[:12] + struct.pack("!HH", kind, priority << 13 | vlan_id) + frame[12:]


def ipv4(
    protocol: int, payload: bytes, *, options: bytes = b"", offset: int = 0, more: bool = False, tos: int = 0x2E
) -> bytes:
    """Build an IPv4 frame."""
    place = offset // 8 | (0x2000 if more else 0)
    first = 0x40 | 5 + len(options) // 4
    total = 20 + len(options) + len(payload)
    header = struct.pack("!BBHHHBBH4s4s", first, tos, total, 7, place, 63, protocol, 0, SRC4, DST4)
    return ethernet(IPV4, header + options + payload)


def ipv6(next_header: int, payload: bytes, *, traffic_class: int = 0x2E, flow_label: int = 0xABCDE) -> bytes:
    """Build an IPv6 frame."""
    packet = dpkt.ip6.IP6(src=SRC6, dst=DST6, nxt=next_header, hlim=64, plen=len(payload), data=payload)
    packet.fc, packet.flow = traffic_class, flow_label
    return ethernet(IPV6, bytes(packet))


def chained(extensions: Sequence[Extension], protocol: int, payload: bytes) -> bytes:
    """Build an IPv6 frame with extension headers, each pointing at the next."""
    numbers = [number for number, _ in extensions] + [protocol]
    headers = b"".join(bytes([after]) + rest for (_, rest), after in zip(extensions, numbers[1:], strict=True))
    return ipv6(numbers[0], headers + payload)


def options(number: int, units: int = 0) -> Extension:
    """Build a hop-by-hop or destination options header of (units + 1) * 8 octets, all PadN."""
    padding, rest = bytearray(), 8 * units + 6
    while rest:
        size = min(rest, 257) if rest != 258 else 200  # no single octet is left over
        padding += bytes([1, size - 2]) + bytes(size - 2)
        rest -= size
    return number, bytes([units]) + bytes(padding)


def routing(addresses: int = 1) -> Extension:
    """Build a routing header with a number of addresses, type 4 (RFC 8754)."""
    return ROUTING, bytes([2 * addresses, 4, addresses, 0, 0, 0, 0]) + SRC6 * addresses


def authentication(icv: int = 12) -> Extension:
    """Build an authentication header with a check value of that many octets (RFC 4302)."""
    return AUTHENTICATION, struct.pack("!BHII", (12 + icv) // 4 - 2, 0, 0x1234, 1) + b"\xaa" * icv


def fragment(offset: int = 0, *, more: bool = False) -> Extension:
    """Build a fragment header."""
    return FRAGMENT, struct.pack("!BHI", 0, offset | more, 0xCAFE)


def extension(number: int) -> Extension:
    """Build an extension header of any kind; a fragment header is that of a first fragment."""
    if number == ROUTING:
        return routing()
    if number == AUTHENTICATION:
        return authentication()
    if number == FRAGMENT:
        return fragment(more=True)
    return options(number, 1)


def tcp(flags: int = 0x12, src_port: int = 40000, dst_port: int = 443) -> bytes:
    """Build a TCP segment."""
    segment = dpkt.tcp.TCP(sport=src_port, dport=dst_port, seq=0x01020304, ack=0x05060708, win=0x9876, data=PAYLOAD)
    segment.flags = flags
    return bytes(segment)


def udp(src_port: int = 5353, dst_port: int = 53) -> bytes:
    """Build a UDP datagram."""
    return bytes(dpkt.udp.UDP(sport=src_port, dport=dst_port, ulen=8 + len(PAYLOAD), data=PAYLOAD))


def arp() -> bytes:
    """Build an ARP request."""
    return bytes(dpkt.arp.ARP(sha=b"\x02\0\0\0\0\1", spa=SRC4, tha=bytes(6), tpa=DST4))
