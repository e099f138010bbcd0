# SPDX-License-Identifier: MIT
"""Frames of every kind that the parser tells apart, by group and name."""

from __future__ import annotations

import struct
from itertools import product

import dpkt

from decoder import (
    AUTHENTICATION,
    DCCP,
    DESTINATION,
    EXTENSIONS,
    FRAGMENT,
    HOP_BY_HOP,
    ICMP,
    ICMPV6,
    IPV4,
    IPV6,
    ROUTING,
    SCTP,
    SERVICE_VLAN,
    TCP,
    UDP,
    UDPLITE,
)
from packets import (
    DST6,
    ESP,
    NAMES,
    NO_NEXT_HEADER,
    PAYLOAD,
    ROUTER_ALERT,
    arp,
    authentication,
    chained,
    ethernet,
    extension,
    fragment,
    ipv4,
    ipv6,
    options,
    routing,
    tagged,
    tcp,
    udp,
)

Corpus = dict[str, bytes]


def transports(family: int) -> dict[str, tuple[int, bytes]]:
    """Give one message of each protocol: its number and its octets."""
    ports = struct.pack("!HH", 2905, 36412)
    return {
        "tcp": (TCP, tcp()),
        "udp": (UDP, udp()),
        "udplite": (UDPLITE, ports + struct.pack("!HH", 8, 0xBEEF) + PAYLOAD),  # RFC 3828
        "sctp": (SCTP, ports + struct.pack("!II", 0xDEAD, 0xBEEF) + b"\x07\0\0\4"),  # RFC 9260
        "dccp": (DCCP, ports + bytes.fromhex("0400 0000 0300 0000")),  # RFC 4340
        "icmp": (ICMP, bytes(dpkt.icmp.ICMP(type=8, code=0, data=dpkt.icmp.ICMP.Echo(id=1, seq=2, data=PAYLOAD)))),
        "icmpv6": (ICMPV6, bytes.fromhex("8000 0000 0001 0002") + PAYLOAD),
        "esp": (ESP, struct.pack("!II", 0x100, 1) + PAYLOAD),
        "gre": (47, struct.pack("!HH", 0, 0x6558) + PAYLOAD),
        "encapsulated": (41 if family == 6 else 4, PAYLOAD * 3),
        "nothing": (NO_NEXT_HEADER, b""),
        "experiment": (253, PAYLOAD),
    }


def neighbour_discovery(kind: int) -> bytes:
    """Build a message of RFC 4861."""
    body = {133: bytes(4), 134: bytes(12), 135: bytes(4) + DST6, 136: b"\x60\0\0\0" + DST6, 137: bytes(4) + DST6 * 2}
    return struct.pack("!BBH", kind, 0, 0) + body[kind] + b"\1\1\2\0\0\0\0\1"


def whole_packets() -> Corpus:
    """Give well-formed IP packets, on which any honest decoder agrees."""
    corpus: Corpus = {}
    for name, (protocol, payload) in transports(4).items():
        corpus[f"ipv4 {name}"] = ipv4(protocol, payload)
        corpus[f"ipv4 options {name}"] = ipv4(protocol, payload, options=b"\x94\4\0\0\1\1\1\0")
    for size in (4, 40):
        corpus[f"ipv4 {size} octets of options udp"] = ipv4(UDP, udp(), options=b"\1" * size)
    for kind in (0, 3, 4, 5, 8, 9, 10, 11, 12, 13, 14):
        corpus[f"ipv4 icmp {kind}"] = ipv4(ICMP, bytes([kind, kind // 2, 0, 0]) + PAYLOAD)
    for name, (protocol, payload) in transports(6).items():
        corpus[f"ipv6 {name}"] = ipv6(protocol, payload)
    for number in EXTENSIONS:
        for name, (protocol, payload) in transports(6).items():
            corpus[f"ipv6 {NAMES[number]} {name}"] = chained([extension(number)], protocol, payload)
    for pair in product(EXTENSIONS, repeat=2):
        chain = [extension(number) for number in pair]
        corpus[f"ipv6 {NAMES[pair[0]]} {NAMES[pair[1]]} tcp"] = chained(chain, TCP, tcp())
    every = [
        options(HOP_BY_HOP),
        options(DESTINATION),
        routing(),
        fragment(more=True),
        authentication(),
        options(60, 2),
    ]
    corpus["ipv6 every extension header tcp"] = chained(every, TCP, tcp())
    corpus["ipv6 every extension header nothing"] = chained(every, NO_NEXT_HEADER, b"")
    for units in (0, 1, 2, 7, 33):
        corpus[f"ipv6 options of {units} units udp"] = chained([options(DESTINATION, units)], UDP, udp())
    for icv in (0, 4, 8, 12, 32):
        corpus[f"ipv6 ah with {icv} octets tcp"] = chained([authentication(icv)], TCP, tcp())
    for addresses in (0, 1, 4):
        corpus[f"ipv6 routing of {addresses} addresses udp"] = chained([routing(addresses)], UDP, udp())
    report = bytes.fromhex("8f00 0000 0000 0001 0400 0000") + DST6
    corpus["ipv6 mld report with router alert"] = chained([(HOP_BY_HOP, b"\0" + ROUTER_ALERT)], ICMPV6, report)
    corpus["ipv6 mld query with router alert"] = chained(
        [(HOP_BY_HOP, b"\0" + ROUTER_ALERT)], ICMPV6, b"\x82\0\0\0" + bytes(20)
    )
    for kind in (133, 134, 135, 136, 137):
        corpus[f"ipv6 neighbour discovery {kind}"] = ipv6(ICMPV6, neighbour_discovery(kind))
    for kind in (1, 2, 3, 4, 129):
        corpus[f"ipv6 icmpv6 {kind}"] = ipv6(ICMPV6, bytes([kind, kind // 2, 0, 0]) + PAYLOAD)
    return corpus


def fragments() -> Corpus:
    """Give fragments: first, middle, last and atomic ones."""
    corpus: Corpus = {}
    places = {"first": (0, True), "middle": (1280, True), "last": (0xFFF8, False), "atomic": (0, False)}
    for place, (offset, more) in places.items():
        for name in ("tcp", "udp", "icmpv6"):
            protocol, payload = transports(6)[name]
            header = fragment(offset, more=more)
            corpus[f"ipv6 {place} fragment {name}"] = chained([header], protocol, payload)
            corpus[f"ipv6 routing {place} fragment {name}"] = chained([routing(), header], protocol, payload)
            # In a first fragment options follow; in a later one the same octets are payload.
            corpus[f"ipv6 {place} fragment options {name}"] = chained([header, options(60)], protocol, payload)
        for name in ("tcp", "udp", "icmp"):
            protocol, payload = transports(4)[name]
            corpus[f"ipv4 {place} fragment {name}"] = ipv4(protocol, payload, offset=offset, more=more)
            corpus[f"ipv4 options {place} fragment {name}"] = ipv4(
                protocol, payload, offset=offset, more=more, options=b"\1\1\1\0"
            )
        corpus[f"ipv6 first fragment {place} fragment"] = chained(
            [fragment(more=True), fragment(offset, more=more)], 17, udp()
        )
    reserved = bytes([0x00]) + struct.pack("!HI", 0x0506, 1)  # reserved bits set, offset 1280
    corpus["ipv6 fragment with reserved bits"] = chained([(FRAGMENT, reserved)], UDP, udp())
    return corpus


def long_chains() -> Corpus:
    """Give chains of up to nine extension headers, of which eight are followed."""
    corpus: Corpus = {}
    for count in range(10):
        corpus[f"ipv6 {count} options"] = chained([options(60)] * count, TCP, tcp())
        mixed = [extension((HOP_BY_HOP, ROUTING, AUTHENTICATION, DESTINATION)[i % 4]) for i in range(count)]
        corpus[f"ipv6 {count} mixed headers"] = chained(mixed, UDP, udp())
    for number in EXTENSIONS:
        corpus[f"ipv6 eight options {NAMES[number]}"] = chained([options(60)] * 8 + [extension(number)], TCP, tcp())
        corpus[f"ipv6 seven options {NAMES[number]}"] = chained([options(60)] * 7 + [extension(number)], TCP, tcp())
    for count in (7, 8):
        late = [options(60)] * count + [fragment(64, more=True)]
        corpus[f"ipv6 {count} options late fragment"] = chained(late, TCP, tcp())
    return corpus


def wrong_lengths() -> Corpus:
    """Give packets whose headers disagree with what is there."""
    corpus: Corpus = {}
    whole = ipv6(TCP, tcp())
    for length in (0, 1, 19, 20, 35, 36, 37, 0xFFFF):
        corpus[f"ipv6 tcp saying {length}"] = whole[:18] + struct.pack("!H", length) + whole[20:]
    whole = chained([options(HOP_BY_HOP, 1)], UDP, udp())
    for length in (0, 7, 8, 15, 16, 23, 24, 40, 0xFFFF):
        corpus[f"ipv6 hop-by-hop udp saying {length}"] = whole[:18] + struct.pack("!H", length) + whole[20:]
    for number in EXTENSIONS:
        whole = chained([extension(number)], UDP, udp())
        for units in (0, 1, 2, 3, 4, 5, 6, 8, 255):
            corpus[f"ipv6 {NAMES[number]} saying {units} units"] = whole[:55] + bytes([units]) + whole[56:]
    whole = ipv4(UDP, udp(), options=b"\1" * 8)
    for length in (0, 19, 20, 27, 28, 29, 35, 36, 52, 53, 0xFFFF):
        corpus[f"ipv4 udp saying {length}"] = whole[:16] + struct.pack("!H", length) + whole[18:]
    for first in (0x40, 0x44, 0x45, 0x46, 0x47, 0x48, 0x4F, 0x35, 0x55, 0x60, 0x65, 0xF7):
        corpus[f"ipv4 beginning with {first:#x}"] = whole[:14] + bytes([first]) + whole[15:]
    for first in (0x00, 0x45, 0x50, 0x6F, 0x70, 0xE0):
        corpus[f"ipv6 beginning with {first:#x}"] = ipv6(UDP, udp())[:14] + bytes([first]) + ipv6(UDP, udp())[15:]
    corpus["ipv6 under the ethertype of ipv4"] = ethernet(IPV4, ipv6(UDP, udp())[14:])
    corpus["ipv4 under the ethertype of ipv6"] = ethernet(IPV6, ipv4(UDP, udp(), options=b"\1" * 20)[14:])
    corpus["ipv4 with padding"] = ipv4(UDP, udp()[:8]) + bytes(18)
    corpus["ipv6 with padding"] = ipv6(UDP, b"") + bytes(18)
    return corpus


def links() -> Corpus:
    """Give frames that differ below IP: tags, and other protocols."""
    corpus: Corpus = {}
    contents = {"tcp": ipv6(TCP, tcp()), "ipv4 udp": ipv4(UDP, udp()), "arp": ethernet(0x0806, arp())}
    for name, frame in contents.items():
        corpus[f"vlan {name}"] = tagged(frame, 0xFFF)
        corpus[f"priority tag {name}"] = tagged(frame, 0, priority=7)
        corpus[f"802.1ad {name}"] = tagged(frame, 0x123, kind=SERVICE_VLAN)
        corpus[f"802.1ad vlan {name}"] = tagged(tagged(frame, 5), 6, kind=SERVICE_VLAN)
        corpus[f"vlan vlan {name}"] = tagged(tagged(frame, 5), 6)
        corpus[f"vlan 802.1ad {name}"] = tagged(tagged(frame, 5, kind=SERVICE_VLAN), 6)
        corpus[f"three tags {name}"] = tagged(tagged(tagged(frame, 5), 6), 7)
        corpus[f"three service tags {name}"] = tagged(tagged(tagged(frame, 5, kind=0x88A8), 6), 7, kind=0x88A8)
    corpus["arp"] = contents["arp"]
    corpus["llc length field"] = ethernet(0, b"")[:12] + struct.pack("!H", 38) + bytes.fromhex("424203") + bytes(35)
    corpus["mpls"] = ethernet(0x0806, b"")[:12] + bytes.fromhex("8847 0001 0140") + contents["tcp"][14:]
    for ethertype in (0x0000, 0x05DC, 0x0600, 0x8101, 0x88A7, 0x88E5, 0x9100, 0x86DC, 0x0801, 0xFFFF):
        corpus[f"ethertype {ethertype:#06x}"] = (
            contents["tcp"][:12] + struct.pack("!H", ethertype) + contents["tcp"][14:]
        )
    return corpus


def all_packets() -> dict[str, Corpus]:
    """Give every frame of this module, by group and name."""
    return {
        "whole packets": whole_packets(),
        "fragments": fragments(),
        "long chains": long_chains(),
        "wrong lengths": wrong_lengths(),
        "links": links(),
    }
