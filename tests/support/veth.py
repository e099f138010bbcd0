"""A veth pair dressed as a netkit pair: what the whole path runs on where the kernel has no netkit."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from netkit_bpf import Device, NetkitPair, NetNS
from traffic import End, Wire

ADDRESSES = {4: ("10.42.0.1/24", "10.42.0.2/24"), 6: ("fd00::1/64", "fd00::2/64")}


def has_tcx() -> bool:
    """tcx hooks came with 6.6."""
    major, minor = platform.release().split(".")[:2]
    return (int(major), int(minor)) >= (6, 6)


@contextmanager
def veth_wire(version: int) -> Iterator[Wire]:
    """Two namespaces and a veth pair between them; the monitor's programs take its tcx hooks."""
    left, right = ADDRESSES[version]
    with NetNS.create() as here, NetNS.create() as there:
        with veth_pair(here, there) as pair:
            pair.primary.add_address(left)
            pair.peer.add_address(right)
            yield Wire(pair, End(here, left.split("/")[0]), End(there, right.split("/")[0]))


@contextmanager
def veth_pair(here: NetNS, there: NetNS) -> Iterator[NetkitPair]:
    """Only the devices, both up."""
    link = ["ip", "link", "add", "ve0", "type", "veth", "peer", "name", "ve1", "netns"]
    with there.popen(["sleep", "60"]) as holder:  # ip names a namespace by a process in it
        try:
            here.run([*link, str(holder.pid)], check=True)
        finally:
            holder.kill()
    pair = NetkitPair(Device.open("ve0", here), Device.open("ve1", there), owned=False)
    pair.primary.up()
    pair.peer.up()
    yield pair
    pair.delete()


@contextmanager
def quiet_pair() -> Iterator[NetkitPair]:
    """Devices without addresses, not even of IPv6: no packet comes but what a test sends."""
    with NetNS.create() as here, NetNS.create() as there:
        for netns in (here, there):
            for name in ("all", "default"):
                netns.call(Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text, "1")
        with veth_pair(here, there) as pair:
            yield pair
