# SPDX-License-Identifier: MIT
"""Packet events."""

from __future__ import annotations

import enum
from typing import NamedTuple

from netkit_bpf._core import PacketEvent

__all__ = ["Fragment", "PacketEvent", "Protocol", "TCPFlags"]


class Fragment(NamedTuple):
    """Where a fragment belongs (RFC 791 section 3.1, RFC 8200 section 4.5).

    Attributes:
        offset: bytes from the start of the fragmentable part, a multiple of 8.
        more: whether fragments follow this one.
    """

    offset: int
    more: bool


class TCPFlags(enum.IntFlag):
    """The flags of a TCP segment: an integer that prints as their names (RFC 9293 section 3.1, RFC 3168 section 6.1).

    >>> print(TCPFlags(0x12))
    SYN|ACK
    >>> TCPFlags.SYN in TCPFlags(0x12), TCPFlags(0x12) == 0x12
    (True, True)
    """

    FIN = 0x01
    SYN = 0x02
    RST = 0x04
    PSH = 0x08
    ACK = 0x10
    URG = 0x20
    ECE = 0x40
    CWR = 0x80

    def __str__(self) -> str:
        return "|".join(flag.name or "" for flag in TCPFlags if flag & self) or "0"

    def __repr__(self) -> str:
        return f"<TCPFlags {self}: {int(self)}>"

    def __format__(self, spec: str) -> str:
        return format(int(self), spec) if spec else str(self)


class Protocol(enum.IntEnum):
    """The protocols that have a name in netinet/in.h (IPPROTO_…): an integer that prints as that name.

    >>> print(Protocol(6), Protocol.TCP == 6)
    TCP True

    Source: https://www.iana.org/assignments/protocol-numbers
    """

    HOPOPTS = 0
    ICMP = 1
    IGMP = 2
    IPIP = 4
    TCP = 6
    EGP = 8
    PUP = 12
    UDP = 17
    IDP = 22
    TP = 29
    DCCP = 33
    IPV6 = 41
    ROUTING = 43
    FRAGMENT = 44
    RSVP = 46
    GRE = 47
    ESP = 50
    AH = 51
    ICMPV6 = 58
    NONE = 59
    DSTOPTS = 60
    MTP = 92
    BEETPH = 94
    ENCAP = 98
    PIM = 103
    COMP = 108
    L2TP = 115
    SCTP = 132
    MH = 135
    UDPLITE = 136
    MPLS = 137
    ETHERNET = 143
    RAW = 255

    def __str__(self) -> str:
        return self.name

    def __format__(self, spec: str) -> str:
        return format(int(self), spec) if spec else self.name


def _protocol(number: int) -> int:
    """Called by the extension module, once for each number."""
    try:
        return Protocol(number)
    except ValueError:
        return number


def _to_json(event: PacketEvent) -> str:
    """Implements PacketEvent.to_json() for the extension module."""
    import json

    fields = event.asdict()
    if event.fragment is not None:
        fields["fragment"] = event.fragment._asdict()
    if event.data is not None:
        fields["data"] = event.data.hex()
    return json.dumps(fields, default=str)


def _to_html(event: PacketEvent) -> str | None:
    """Implements PacketEvent._repr_html_() for the extension module."""
    from netkit_bpf.internal.html import facts, show

    fields = event.asdict()
    if event.data is not None:
        fields["data"] = event.data.hex(" ", -4)[:108]
    return show(f"PacketEvent {event}", lambda: [facts(**fields)])
