"""Making, configuring and deleting pairs: of veth devices, which are everywhere and are made by the same messages.

What a device then takes to go is the kernel's grace periods, whoever asks: what counts is how many pairs share one.
"""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Callable

from netkit_bpf import NetkitPair, NetNS
from netkit_bpf._core import hand_over
from netkit_bpf.devices.pair import create_pairs, delete_group
from netkit_bpf.devices.pair_options import check_pair_options

TIMES = 20  # that each makes a pair, in a round
GROUP, MANY, ONE_BY_ONE = 7, 64, 8
BATCH = """\
link add v{0} mtu 1400 group 7 type veth peer name v{0}p mtu 1400 group 7
link set v{0} up
link set v{0}p up
address add 10.42.{0}.1/24 dev v{0}
address add 10.42.{0}.2/24 dev v{0}p
"""


def ours() -> float:
    """Milliseconds that this package takes for a pair with an MTU and a group, both ends up, an address each."""

    def make(netns: NetNS, number: int) -> None:
        (pair,) = create(netns, netns, [f"v{number}"])
        pair.primary.add_address(f"10.42.{number}.1/24")
        pair.peer.add_address(f"10.42.{number}.2/24")

    return _median(make)


def ip_batch() -> float:
    """The same for one process of ip-link(8)."""
    return _median(
        lambda _, number: subprocess.run(["ip", "-batch", "-"], input=BATCH.format(number), text=True, check=True)
    )


def pyroute2() -> float:
    """The same for pyroute2 in this process, its socket opened before."""
    from pyroute2 import IPRoute

    def timed() -> float:
        with IPRoute() as route:

            def make(_: NetNS, number: int) -> None:
                peer = {"ifname": f"v{number}p", "mtu": 1400, "group": GROUP}
                route.link("add", ifname=f"v{number}", kind="veth", mtu=1400, group=GROUP, peer=peer)
                for end, name in enumerate((f"v{number}", f"v{number}p"), 1):
                    (index,) = route.link_lookup(ifname=name)
                    route.link("set", index=index, state="up")
                    route.addr("add", index=index, address=f"10.42.{number}.{end}", prefixlen=24)

            return _times(netns, make)

    with NetNS.create() as netns:
        return netns.call(timed)


def delete_one_by_one() -> float:
    """Milliseconds a pair."""
    with NetNS.create() as hub, NetNS.create() as node:
        pairs = create(hub, node, [f"v{number}" for number in range(ONE_BY_ONE)])
        begin = time.perf_counter()
        for pair in pairs:
            pair.delete()
        return 1e3 * (time.perf_counter() - begin) / ONE_BY_ONE


def delete_by_group() -> float:
    """Milliseconds a pair, of many."""
    with NetNS.create() as hub, NetNS.create() as node:
        create(hub, node, [f"v{number}" for number in range(MANY)])
        begin = time.perf_counter()
        delete_group(GROUP, hub)
        return 1e3 * (time.perf_counter() - begin) / MANY


def create(netns: NetNS, peer_netns: NetNS, names: list[str]) -> list[NetkitPair]:
    """Pairs of veth devices."""
    ends = {"mtu": 1400, "group": GROUP}
    orders = [(check_pair_options(name, mode="l2", ends=ends), peer_netns) for name in names]
    for options, _ in orders:
        options.kind = "veth"
    return [hand_over(pair) for pair in create_pairs(netns, orders)]  # else they would go with the objects


def _median(make: Callable[[NetNS, int], object]) -> float:
    with NetNS.create() as netns:
        return netns.call(_times, netns, make)


def _times(netns: NetNS, make: Callable[[NetNS, int], object]) -> float:
    """Milliseconds, the median; on a thread inside the namespace."""
    found = []
    for number in range(TIMES):
        begin = time.perf_counter()
        make(netns, number)
        found.append(1e3 * (time.perf_counter() - begin))
    delete_group(GROUP, netns)
    return statistics.median(found)
