# SPDX-License-Identifier: MIT
"""A flow: what one side of a pair sends from one address and port to another."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import Any, NamedTuple

from netkit_bpf.enums import Side
from netkit_bpf.events.event import Protocol, TCPFlags

_PROTOCOLS = {int(each): each for each in Protocol}


class Flow(NamedTuple):
    """What was counted of a flow. What does not apply is None.

    A row in which only `pair_name` and `side` are set counts what is not attributed to flows any more: `flows` tells of
    how many.

    Attributes:
        pair_name: the name of the pair's primary when it was attached to.
        side: the end that sends.
        ethertype: the EtherType after VLAN tags.
        family: 4 or 6; None if the packets are not IP or their IP headers not valid.
        src: the source.
        dst: the destination.
        protocol: the protocol's number after IPv6 extension headers, a Protocol if it has a name there; None where
            their chain is cut short.
        src_port: of TCP, UDP, UDP-Lite, SCTP and DCCP. Later fragments have no ports, and are a flow of their own.
        dst_port: likewise.
        icmp_type: of ICMP and ICMPv6, whose messages of each type and code are a flow.
        icmp_code: likewise.
        flows: how many flows the row is of: 1.
        packets: how many packets on the wire: the segments of GSO one by one.
        skbs: how many packets as the hook sees them, before segmentation.
        bytes: how long these were together, with their Ethernet headers.
        first_ns: when the first one came: nanoseconds of Unix time, by a clock that ticks every few milliseconds.
        last_ns: when the last one came.
        tcp_flags: all TCP flags that were seen.
        handshake_ns: nanoseconds from TCP's SYN to the SYN and ACK that answers it, as the hooks saw them: the round
            trip from the hook to the end that was called. Both directions of a connection have it. None if it was not
            seen, or if the SYN was sent more than once.
    """

    pair_name: str | None
    side: Side | None
    ethertype: int | None
    family: int | None
    src: IPv4Address | IPv6Address | None
    dst: IPv4Address | IPv6Address | None
    protocol: int | None
    src_port: int | None
    dst_port: int | None
    icmp_type: int | None
    icmp_code: int | None
    flows: int
    packets: int
    skbs: int
    bytes: int
    first_ns: int | None
    last_ns: int | None
    tcp_flags: TCPFlags | None
    handshake_ns: int | None

    @property
    def is_attributed(self) -> bool:
        """Whether it is of a flow, and not of those that are no longer told apart."""
        return self.ethertype is not None

    def __str__(self) -> str:
        where = f"[{self.side}] " if self.side is not None else ""
        counted = f"{self.packets} packets {self.bytes} bytes"
        if not self.is_attributed:
            return f"{where}{self.flows} flows that are not told apart: {counted}"
        if self.src is None:
            return f"{where}ethertype {self.ethertype:#06x}: {counted}"
        ends = f"{_end(self.src, self.src_port)} -> {_end(self.dst, self.dst_port)}"
        return f"{where}{protocol_word(self.protocol)} {ends}: {counted}"


def flow_of(values: Sequence[Any]) -> Flow:
    """Make one of the core's numbers and bytes."""
    flow = Flow._make(values)
    src, dst = flow.src, flow.dst
    return flow._replace(
        side=None if flow.side is None else Side.from_number(values[1]),
        src=None if src is None else ipaddress.ip_address(src),
        dst=None if dst is None else ipaddress.ip_address(dst),
        protocol=None if flow.protocol is None else _PROTOCOLS.get(flow.protocol, flow.protocol),
        tcp_flags=None if flow.tcp_flags is None else TCPFlags(flow.tcp_flags),
    )


def protocol_word(protocol: int | None) -> str:
    """The protocol's name in lower case, or its number."""
    if protocol is None:
        return "?"
    return protocol.name.lower() if isinstance(protocol, Protocol) else str(protocol)


def _end(address: IPv4Address | IPv6Address | None, port: int | None) -> str:
    if port is None:
        return str(address)
    return f"[{address}]:{port}" if isinstance(address, IPv6Address) else f"{address}:{port}"
