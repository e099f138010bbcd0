"""A pair carries packets as soon as it is there, though the kernel acknowledges more than it has done by then."""

from __future__ import annotations

from ipaddress import IPv4Interface, IPv6Interface, ip_interface

import pytest

from netkit_bpf import NetkitPair, NetNS
from traffic import End, send_datagrams

ROUNDS = 30  # of these, more than half lost their first packet when nothing waited for the kernel


def send_at_once(pair: NetkitPair, primary: IPv4Interface | IPv6Interface, peer: IPv4Interface | IPv6Interface) -> None:
    """Both ends send a datagram; the first packet that is lost is never sent again."""
    ends = [
        End(device.netns, str(interface.ip), device.ifindex if interface.version == 6 else 0)
        for device, interface in ((pair.primary, primary), (pair.peer, peer))
    ]
    send_datagrams(ends[0], ends[1], [100])
    send_datagrams(ends[1], ends[0], [100])


def test_link_local_addresses() -> None:
    with NetNS.create() as here:
        for _ in range(ROUNDS):
            with NetkitPair.create(netns=here) as pair:
                send_at_once(pair, *pair.add_link_local())


@pytest.mark.parametrize("first", ["primary", "peer"])
def test_ends_that_are_set_up_one_after_the_other(first: str) -> None:
    with NetNS.create() as here, NetNS.create() as there:
        for _ in range(ROUNDS):
            with NetkitPair.create(netns=here, peer_netns=there, up=False) as pair:
                addresses = [ip_interface("192.0.2.1/24"), ip_interface("192.0.2.2/24")]
                for device, address in zip((pair.primary, pair.peer), addresses, strict=True):
                    device.add_address(address)
                for device in (pair.primary, pair.peer) if first == "primary" else (pair.peer, pair.primary):
                    device.up()
                send_at_once(pair, *addresses)
