"""A veth pair in place of a netkit pair, for tests of the whole path on kernels without netkit."""

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
def veth_pair(here: NetNS, there: NetNS, name: str = "ve") -> Iterator[NetkitPair]:
    """Only the devices, both up."""
    link = ["ip", "link", "add", f"{name}0", "type", "veth", "peer", "name", f"{name}1", "netns"]
    with there.popen(["sleep", "60"]) as holder:  # ip names a namespace by a process in it
        try:
            here.run([*link, str(holder.pid)], check=True)
        finally:
            holder.kill()
    pair = NetkitPair(Device.open(f"{name}0", here), Device.open(f"{name}1", there), owned=False)
    pair.primary.up()
    pair.peer.up()
    yield pair
    pair.delete()


@contextmanager
def quiet_pair() -> Iterator[NetkitPair]:
    """Devices without addresses, not even of IPv6: no packet comes but what a test sends."""
    with NetNS.create() as here, NetNS.create() as there:
        for netns in (here, there):
            disable_ipv6(netns)
        with veth_pair(here, there) as pair:
            yield pair


def disable_ipv6(netns: NetNS) -> None:
    """So that devices that are made later send nothing by themselves."""
    for name in ("all", "default"):
        netns.call(Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text, "1")


@contextmanager
def veth_pairs(number: int, *, silent: bool = False) -> Iterator[list[NetkitPair]]:
    """Many pairs, down, in one namespace; silent ones send nothing by themselves when they are up."""
    with NetNS.create() as here:
        if silent:
            disable_ipv6(here)
        names = [f"ve{index}" for index in range(number)]
        lines = "".join(f"link add {name} group 7 type veth peer name {name}p\n" for name in names)
        here.run(["ip", "-batch", "-"], input=lines, text=True, check=True)
        yield [NetkitPair(Device.open(name, here), Device.open(f"{name}p", here), owned=False) for name in names]
        here.run(["ip", "link", "delete", "group", "7"])  # fails if none is left
