"""Root of a user namespace, in whose network namespace a peer lives, cannot have the host's own devices touched."""

from __future__ import annotations

import struct

import pytest

from forger import (
    IFLA_IFNAME,
    IFLA_INFO_KIND,
    IFLA_LINK,
    IFLA_LINK_NETNSID,
    IFLA_LINKINFO,
    RTM_NEWLINK,
    RTNLGRP_LINK,
    acknowledgement,
    attribute,
    foreign_namespace,
    inside,
    link_message,
    send_to_group,
    send_to_ports,
)
from netkit_bpf import Device, NetkitPair, NetNS, pairs


def forged(ifindex: int, link: int, sequence: int = 0, port: int = 0) -> bytes:
    """A netkit device whose other end is the device `link` of the namespace that has the number 0."""
    attributes = (
        attribute(IFLA_IFNAME, b"nkp\0")
        + attribute(IFLA_LINK, struct.pack("=i", link))
        + attribute(IFLA_LINK_NETNSID, struct.pack("=i", 0))
        + attribute(IFLA_LINKINFO, attribute(IFLA_INFO_KIND, b"netkit\0"))
    )
    return link_message(RTM_NEWLINK, ifindex, attributes, sequence, port) + acknowledgement(sequence, port)


@pytest.mark.parametrize("act", ["delete", "set_policy", "list"])
def test_a_device_of_the_host_is_out_of_reach(act: str) -> None:
    with foreign_namespace() as holder, NetNS.create() as host, NetNS.open(holder.pid) as there:
        host.run(["ip", "link", "add", "valuable", "type", "veth"], check=True)
        valuable = Device.open("valuable", host)
        NetkitPair.create("nk0", peer_name="nkp", netns=host, peer_netns=there)
        number = Device.open("nkp", there).ifindex

        def attack() -> str:
            many = range(1, 200)
            sent = send_to_ports(
                lambda port: b"".join(forged(number, valuable.ifindex, sequence, port) for sequence in many)
            )
            send_to_group(RTNLGRP_LINK, forged(number, valuable.ifindex))
            return ",".join(sent)

        assert set(inside(holder.pid, attack).split(",")) == {"Connection refused"}
        pair = pairs(there)[0] if act == "list" else NetkitPair.open("nkp", there)
        inside(holder.pid, attack)
        assert (pair.primary.name, pair.peer.name) == ("nk0", "nkp")
        if act == "set_policy":
            pair.set_policy("blackhole", side="peer")
            assert pair.peer_policy == "blackhole"
        pair.delete()
        assert valuable.name == "valuable"
        with pytest.raises(OSError, match="No such device"):
            Device.open("nkp", there)
