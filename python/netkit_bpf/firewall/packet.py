# SPDX-License-Identifier: MIT
"""What a rule can ask of a packet, from what an event tells of it."""

from __future__ import annotations

from netkit_bpf._core import PacketEvent, RulePacket
from netkit_bpf.enums import Side

_ARP = 0x0806
_OTHER_FAMILY, _IPV4_FAMILY, _IPV6_FAMILY, _ARP_FAMILY = range(4)  # enum nk_family, <netkit_bpf/firewall.h>
_WHOLE, _FIRST, _LATER = range(3)  # enum nk_fragment
_HIDDEN = 256  # NK_FW_HIDDEN
_ABSENT = 65536  # NK_FW_ABSENT
_LOW = (1 << 64) - 1


def packet_of(event: PacketEvent) -> RulePacket:
    """The properties of the packet of an event."""
    family = {4: _IPV4_FAMILY, 6: _IPV6_FAMILY}.get(event.family or 0, _OTHER_FAMILY)
    if event.family is None and event.ethertype == _ARP:
        family = _ARP_FAMILY
    fragment = event.fragment
    src, dst = (0 if address is None else int(address) for address in (event.src, event.dst))
    numbers = (event.src_port, event.dst_port) if event.icmp_type is None else (event.icmp_type, event.icmp_code)
    src_number, dst_number = (_ABSENT if number is None else number for number in numbers)
    return RulePacket(
        side=1 if event.side == Side.PEER else 0,
        family=family,
        src=(src >> 64, src & _LOW),
        dst=(dst >> 64, dst & _LOW),
        fragment=_WHOLE if fragment is None else _LATER if fragment.offset else _FIRST,
        protocol=_HIDDEN if event.protocol is None else event.protocol,
        src_port=src_number,
        dst_port=dst_number,
        tcp_flags=_ABSENT if event.tcp_flags is None else event.tcp_flags,
        length=min(event.length, _ABSENT - 1),
    )
