# SPDX-License-Identifier: MIT
"""What tests of the load balancer need beside ordinary sockets: raw frames, and sums that no device completes."""

from __future__ import annotations

import array
import fcntl
import socket
import struct
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Literal

import dpkt

from netkit_bpf import Device, LoadBalancer, NetkitPair
from service import PORT, Service

SIOCETHTOOL, ETHTOOL_STXCSUM = 0x8946, 0x17  # linux/sockios.h, linux/ethtool.h

Way = Literal["nat", "dsr"]


@dataclass
class Wired:
    """A service, and how its replies come back."""

    service: Service
    way: Way

    def balancer(self, protocol: Literal["tcp", "udp"] = "tcp") -> LoadBalancer:
        made = self.service
        return LoadBalancer(made.pair, made.vip, PORT, protocol=protocol, mode=self.way, backends=made.backends)


def no_offload(device: Device) -> None:
    """Let the stack complete the checksums of what it sends by this device: ethtool -K NAME tx off."""
    value = array.array("I", [ETHTOOL_STXCSUM, 0])
    request = struct.pack("16sQ", device.name.encode(), value.buffer_info()[0])
    with device.netns.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCETHTOOL, request)


def raw_socket(device: Device) -> socket.socket:
    """A socket that sends whole frames by this device, as they are."""
    made = device.netns.socket(socket.AF_PACKET, socket.SOCK_RAW)
    made.bind((device.name, 0))
    return made


def packet(src: str, dst: str, transport: dpkt.Packet, **fields: int) -> bytes:
    """An IP packet with right checksums."""
    protocol = {dpkt.tcp.TCP: 6, dpkt.udp.UDP: 17, dpkt.icmp.ICMP: 1, dpkt.icmp6.ICMP6: 58}[type(transport)]
    raw = bytes(transport)
    if ip_address(src).version == 4:
        ip = dpkt.ip.IP(src=ip_address(src).packed, dst=ip_address(dst).packed, p=protocol, data=transport, **fields)
        ip.len = 20 + len(raw)
        return bytes(ip)
    made = dpkt.ip6.IP6(src=ip_address(src).packed, dst=ip_address(dst).packed, nxt=protocol, hlim=64, data=transport)
    made.plen = len(raw)
    made.extension_hdrs = {}
    return bytes(made)


def frame_of(pair: NetkitPair, ip: bytes) -> bytes:
    """The packet in a frame to the primary."""
    macs = (bytes.fromhex(end.mac.replace(":", "")) for end in (pair.primary, pair.peer))
    return b"".join((*macs, b"\x86\xdd" if ip[0] >> 4 == 6 else b"\x08\0", ip))
