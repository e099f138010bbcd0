# SPDX-License-Identifier: MIT
"""Routes over a device: ip-route(8)."""

from __future__ import annotations

import ipaddress
from typing import NamedTuple

from netkit_bpf.internal.arguments import expect

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Route(NamedTuple):
    """A route of the main table.

    Attributes:
        dst: the destination; 0.0.0.0/0 and ::/0 are the default routes.
        via: the gateway; None if the destination is reached directly.
    """

    dst: Network
    via: Address | None

    def __str__(self) -> str:
        dst = str(self.dst) if self.dst.prefixlen else "default"
        return f"{dst} via {self.via}" if self.via else dst


def parse_route(dst: str | Network, via: str | Address | None) -> Route:
    """Check a destination ("fd01::/64", "default") and a gateway. "default" without one is IPv4's."""
    gateway = via
    if gateway is not None and not isinstance(gateway, (ipaddress.IPv4Address, ipaddress.IPv6Address)):
        gateway = ipaddress.ip_address(expect(gateway, str, "via"))
    if isinstance(dst, (ipaddress.IPv4Network, ipaddress.IPv6Network)):
        network = dst
    elif expect(dst, str, "dst") == "default":
        network = ipaddress.ip_network("::/0" if gateway is not None and gateway.version == 6 else "0.0.0.0/0")
    elif "/" not in dst:
        raise ValueError(f"{dst!r} has no prefix length: write it as in 'fd01::/64'")
    else:
        network = ipaddress.ip_network(dst)
    if gateway is not None and network.version == 6 and gateway.version == 4:
        raise ValueError(f"via {gateway}: an IPv6 destination has no IPv4 gateway")
    return Route(network, gateway)
