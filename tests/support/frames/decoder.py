# SPDX-License-Identifier: MIT
"""The expected event of a frame: a second decoder, written from the RFCs, to check the BPF parser.

It cuts the frame into slices, so that it cannot read beyond the end; the BPF program counts offsets instead.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

from netkit_bpf import Side
from netkit_bpf.events.event import Fragment, Protocol, TCPFlags

IPV4, IPV6 = 0x0800, 0x86DD
VLAN, SERVICE_VLAN = 0x8100, 0x88A8  # IEEE 802.1Q customer and service tags
HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION, AUTHENTICATION = 0, 43, 44, 60, 51
EXTENSIONS = (HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION, AUTHENTICATION)
ICMP, TCP, UDP, DCCP, ICMPV6, SCTP, UDPLITE = 1, 6, 17, 33, 58, 132, 136
MOST_TAGS = 2
MOST_EXTENSIONS = 8
LARGEST_PAYLOAD = 0xFFFF

Fields = dict[str, object]

# Least length of the header of a protocol with ports: RFC 9293, 768, 3828, 9260, 4340.
_PORTS = {TCP: 20, UDP: 8, UDPLITE: 8, SCTP: 12, DCCP: 12}

# Echo replies and requests by family: RFC 792, RFC 4443 sections 4.1 and 4.2.
_ECHOES = {(4, 0), (4, 8), (6, 128), (6, 129)}

_NAMED = set(map(int, Protocol))

_NOTHING: Fields = dict.fromkeys(
    [
        "family",
        "src",
        "dst",
        "next_header",
        "protocol",
        "src_port",
        "dst_port",
        "tcp_flags",
        "tcp_seq",
        "tcp_ack",
        "tcp_window",
        "icmp_type",
        "icmp_code",
        "icmp_id",
        "icmp_seq",
        "payload_len",
        "hop_limit",
        "traffic_class",
        "flow_label",
        "fragment",
    ]
)


def decode(frame: bytes, *, side: Side, pair: str) -> Fields:
    """Give the fields of the event of an Ethernet frame, all but its timestamp, in the event's order."""
    ethertype, vlan_id, packet = _link(frame)
    fields: Fields = {"pair_name": pair, "side": side, **_NOTHING}
    if ethertype == IPV6:
        fields.update(_ipv6(packet))
    elif ethertype == IPV4:
        fields.update(_ipv4(packet))
    for name in ("next_header", "protocol"):
        number = fields[name]
        if isinstance(number, int) and number in _NAMED:
            fields[name] = Protocol(number)
    return {**fields, "length": len(frame), "gso_segs": 1, "ethertype": ethertype, "vlan_id": vlan_id, "data": None}


def _link(frame: bytes) -> tuple[int, int | None, bytes]:
    """Split a frame into the type of its content, the outermost VLAN ID and the content."""
    (ethertype,) = struct.unpack("!H", frame[12:14])
    rest = frame[14:]
    vlan_id = None
    for _ in range(MOST_TAGS):
        if ethertype not in (VLAN, SERVICE_VLAN) or len(rest) < 4:
            break
        control, ethertype = struct.unpack("!HH", rest[:4])
        rest = rest[4:]
        if vlan_id is None:
            vlan_id = control & 0xFFF
    return ethertype, vlan_id, rest


def _ipv4(packet: bytes) -> Fields:
    """RFC 791 section 3.1; RFC 2474 renames the type of service."""
    if len(packet) < 20:
        return {}
    first, service, total, _, fragment, ttl, protocol, _, src, dst = struct.unpack("!BBHHHBBH4s4s", packet[:20])
    header_len = 4 * (first % 16)
    if first // 16 != 4 or header_len < 20 or total < header_len:
        return {}
    fields: Fields = {
        "family": 4,
        "src": IPv4Address(src),
        "dst": IPv4Address(dst),
        "next_header": protocol,
        "protocol": protocol,
        "payload_len": total - header_len,
        "hop_limit": ttl,
        "traffic_class": service,
    }
    offset, more = 8 * (fragment % 0x2000), bool(fragment & 0x2000)
    if offset or more:
        fields["fragment"] = Fragment(offset, more)
    if offset == 0:
        fields.update(_transport(4, protocol, packet[header_len:total]))
    return fields


def _ipv6(packet: bytes) -> Fields:
    """RFC 8200 section 3; a payload length of 0 with hop-by-hop options may be a jumbogram (RFC 2675)."""
    if len(packet) < 40:
        return {}
    word, payload_len, next_header, hop_limit, src, dst = struct.unpack("!IHBB16s16s", packet[:40])
    if word >> 28 != 6:
        return {}
    rest = packet[40:]
    if payload_len == 0 and next_header == HOP_BY_HOP and len(rest) > LARGEST_PAYLOAD:
        payload_len = len(rest)
    protocol, fragment, upper = _chain(next_header, rest[:payload_len])
    fields: Fields = {
        "family": 6,
        "src": IPv6Address(src),
        "dst": IPv6Address(dst),
        "next_header": next_header,
        "protocol": protocol,
        "payload_len": payload_len,
        "hop_limit": hop_limit,
        "traffic_class": word >> 20 & 0xFF,
        "flow_label": word & 0xFFFFF,
        "fragment": fragment,
    }
    if protocol is not None:
        fields.update(_transport(6, protocol, upper))
    return fields


def _chain(next_header: int, there: bytes) -> tuple[int | None, Fragment | None, bytes]:
    """Follow extension headers (RFC 8200 section 4; RFC 4302 section 2.2 for authentication).

    Gives the protocol behind them, the fragment, and what the protocol's header can be read from. The protocol is None
    if a header of the chain is cut short or there are too many. Of several fragment headers the innermost counts: it
    speaks of what follows it.
    """
    fragment = None
    followed = 0
    while next_header in EXTENSIONS:
        if followed == MOST_EXTENSIONS or len(there) < 8:
            return None, fragment, b""
        followed += 1
        length = 8 * (there[1] + 1)
        if next_header == AUTHENTICATION:
            length = 4 * (there[1] + 2)
        elif next_header == FRAGMENT:
            length = 8
            (place,) = struct.unpack("!H", there[2:4])
            fragment = Fragment(8 * (place >> 3), bool(place & 1))
            if fragment.offset:
                return there[0], fragment, b""
        if length > len(there):
            return None, fragment, b""
        next_header, there = there[0], there[length:]
    return next_header, fragment, there


def _transport(family: int, protocol: int, there: bytes) -> Fields:
    """Read ports and flags, or type and code (RFC 792, RFC 4443), if their header is there."""
    if (family, protocol) in ((4, ICMP), (6, ICMPV6)):
        if len(there) < 4:
            return {}
        message: Fields = {"icmp_type": there[0], "icmp_code": there[1]}
        if (family, there[0]) in _ECHOES and len(there) >= 8:
            message["icmp_id"], message["icmp_seq"] = struct.unpack("!HH", there[4:8])
        return message
    if protocol not in _PORTS or len(there) < _PORTS[protocol]:
        return {}
    src_port, dst_port = struct.unpack("!HH", there[:4])
    fields: Fields = {"src_port": src_port, "dst_port": dst_port}
    if protocol == TCP:
        seq, ack, _, flags, window = struct.unpack("!IIBBH", there[4:16])
        fields |= {"tcp_flags": TCPFlags(flags), "tcp_seq": seq, "tcp_ack": ack, "tcp_window": window}
    return fields
