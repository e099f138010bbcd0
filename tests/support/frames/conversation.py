# SPDX-License-Identifier: MIT
"""Packets of everyday conversations, whose lines people know from tcpdump."""

from __future__ import annotations

import struct
from ipaddress import ip_address

from packets import PAYLOAD, arp, chained, ethernet, ipv4, ipv6, options, tagged

A4, B4 = ip_address("10.0.0.1").packed, ip_address("10.0.0.2").packed
A6, B6 = ip_address("fd00::1").packed, ip_address("fd00::2").packed
SYN, ACK, PUSH, FIN, RESET = 2, 16, 8, 1, 4
MSS = bytes.fromhex("020405b4 0402 080a 00000001 00000000 01 030307")
TIMES = bytes.fromhex("0101 080a 00000002 00000001")
SACK = bytes.fromhex("0101 050a") + struct.pack("!II", 2001, 2101)


def _ip(src: bytes, dst: bytes, protocol: int, payload: bytes, *, place: int = 0x4000) -> bytes:
    if len(src) == 4:
        header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 0x1234, place, 64, protocol, 0) + src + dst
        return ethernet(0x0800, header + payload)
    return ethernet(0x86DD, struct.pack("!IHBB", 6 << 28, len(payload), protocol, 64) + src + dst + payload)


def segment(src: bytes, dst: bytes, ports: tuple[int, int], numbers: tuple[int, int], flags: int,
            extra: bytes = b"", payload: bytes = b"") -> bytes:  # fmt: skip
    """Build a TCP segment with its options."""
    offset = (20 + len(extra)) // 4 << 4
    header = struct.pack("!HHIIBBHHH", *ports, *numbers, offset, flags, 64240, 0, 0)
    return _ip(src, dst, 6, header + extra + payload)


def handshake(a: bytes, b: bytes, client: int = 51000) -> list[bytes]:
    """Build a whole connection: opened, one request and its answer, closed."""
    there, back = (client, 443), (443, client)
    return [
        segment(a, b, there, (1000, 0), SYN, MSS),
        segment(b, a, back, (2000, 1001), SYN | ACK, MSS),
        segment(a, b, there, (1001, 2001), ACK, TIMES),
        segment(a, b, there, (1001, 2001), ACK | PUSH, TIMES, b"GET / HTTP/1.0\r\n\r\n"),
        segment(b, a, back, (2001, 1019), ACK | PUSH, TIMES, PAYLOAD * 6),
        segment(a, b, there, (1019, 2001), ACK, SACK),
        segment(b, a, back, (2097, 1019), ACK | FIN),
        segment(a, b, there, (1019, 2098), ACK | FIN),
        segment(b, a, back, (2098, 1020), ACK),
        segment(a, b, (client + 1, 9), (7, 0), SYN),
        segment(b, a, (9, client + 1), (0, 8), RESET | ACK),
        segment(a, b, there, (5, 0), 0),
        segment(a, b, there, (5, 6), 0xFF),
    ]


def _quoted(frame: bytes) -> bytes:
    return frame[14:]


def frames() -> dict[str, bytes]:
    """Give them all, by name."""
    named = {f"tcp over {name} {i}": each
             for name, (a, b) in {"ipv4": (A4, B4), "ipv6": (A6, B6)}.items()
             for i, each in enumerate(handshake(a, b))}  # fmt: skip
    port = struct.pack("!HHHH", 40000, 40053, 8 + 16, 0) + PAYLOAD
    named |= {"udp over ipv4": _ip(A4, B4, 17, port), "udp over ipv6": _ip(A6, B6, 17, port)}
    echo = struct.pack("!BBHHH", 8, 0, 0, 7, 1) + bytes(56)
    named |= {"ping": _ip(A4, B4, 1, echo), "pong": _ip(B4, A4, 1, b"\0" + echo[1:])}
    named |= {"ping6": _ip(A6, B6, 58, b"\x80" + echo[1:]), "pong6": _ip(B6, A6, 58, b"\x81" + echo[1:])}
    quoted = _quoted(named["udp over ipv4"])
    for code in (0, 1, 2, 3, 4, 10, 13):
        named[f"unreachable {code}"] = _ip(B4, A4, 1, struct.pack("!BBHHH", 3, code, 0, 0, 1400) + quoted)
    named["time exceeded"] = _ip(B4, A4, 1, struct.pack("!BBHI", 11, 0, 0, 0) + quoted)
    named["reassembly time exceeded"] = _ip(B4, A4, 1, struct.pack("!BBHI", 11, 1, 0, 0) + quoted)
    named["redirect"] = _ip(B4, A4, 1, struct.pack("!BBH", 5, 1, 0) + B4 + quoted)
    quoted = _quoted(named["udp over ipv6"])
    for code in (0, 1, 3, 4):
        named[f"unreachable6 {code}"] = _ip(B6, A6, 58, struct.pack("!BBHI", 1, code, 0, 0) + quoted)
    named["too big"] = _ip(B6, A6, 58, struct.pack("!BBHI", 2, 0, 0, 1280) + quoted)
    named["time exceeded6"] = _ip(B6, A6, 58, struct.pack("!BBHI", 3, 0, 0, 0) + quoted)
    for kind, body in {133: bytes(4), 134: bytes(12), 135: bytes(4) + B6, 136: bytes(4) + B6}.items():
        named[f"neighbour discovery {kind}"] = _ip(A6, B6, 58, struct.pack("!BBH", kind, 0, 0) + body)
    report = struct.pack("!BBHHHBBH", 143, 0, 0, 0, 1, 4, 0, 0) + A6
    named["listener report"] = chained([options(0)], 58, report)
    named["arp request"] = ethernet(0x0806, arp())
    named["arp reply"] = ethernet(
        0x0806, struct.pack("!HHBBH", 1, 0x0800, 6, 4, 2) + bytes(5) + b"\1" + A4 + bytes(6) + B4
    )
    named["a tag"] = tagged(named["ping"])
    named["two tags"] = tagged(tagged(named["ping6"], 7), 8, kind=0x88A8)
    named["esp"] = ipv4(253, PAYLOAD)
    named["later fragment"] = _ip(A4, B4, 17, PAYLOAD, place=0x2001)
    named["no next header"] = ipv6(59, b"")
    named["destination options"] = chained([options(60)], 17, struct.pack("!HHHH", 40000, 40053, 24, 0) + PAYLOAD)
    return named


def pcap(packets: list[bytes], *, link: int = 1, order: str = "<", magic: int = 0xA1B2C3D4, cut: int = 262144) -> bytes:
    """Build a pcap file of packets, a bit more than a second from each to the next."""
    content = struct.pack(f"{order}IHHiIII", magic, 2, 4, 0, 0, cut, link)
    for number, packet in enumerate(packets):
        kept = packet[:cut]
        content += struct.pack(f"{order}IIII", 1_700_000_000 + number, number * 1001, len(kept), len(packet)) + kept
    return content
