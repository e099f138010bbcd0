"""What a killed process left is removed, and nothing else."""

from __future__ import annotations

import socket

import netkit_bpf as nk
from forked import Forked
from netkit_bpf import NetkitDevice, NetkitPair, NetNS, NotSupportedError
from netkit_bpf.devices.owner import Owner


def make(netns: NetNS, here: str, there: str) -> list[NetkitPair]:
    """Three pairs: between this namespace and the other, within the other, and there one with an alias of its own."""
    return [
        NetkitPair.create(here, peer_netns=netns),
        NetkitPair.create(there, netns=netns),
        NetkitPair.create(f"{there}-k", netns=netns, alias="somebody needs it"),
    ]


def names(netns: NetNS) -> set[str]:
    return {name for _, name in netns.call(socket.if_nameindex)}


def test_reaping_removes_what_a_killed_process_left_and_nothing_else() -> None:
    with NetNS.create("nk-test-orphans") as netns, NetNS.current() as here:
        before = names(here)
        with (
            Forked(lambda: make(netns, "dead", "dead-there")) as killed,
            Forked(lambda: make(netns, "live", "live-there")) as living,
        ):
            with NetkitPair.create("mine", netns=netns):
                netns.run(["ip", "link", "add", "stranger", "type", "netkit"], check=True)
                everything = names(netns)
                assert nk.orphans() == []
                killed.kill()
                found = nk.orphans()
                assert [(orphan.name, orphan.netns.name, orphan.pid) for orphan in found] == [
                    ("dead", None, killed.pid),
                    ("deadp", "nk-test-orphans", killed.pid),
                    ("dead-there", "nk-test-orphans", killed.pid),
                ]
                assert str(found[2]) == f"dead-there in nk-test-orphans, made by process {killed.pid}, which has ended"
                assert [orphan.name for orphan in nk.orphans(here)] == ["dead"]
                assert [orphan.name for orphan in nk.reap()] == ["dead", "dead-there"]  # deadp went with dead
                assert nk.reap() == []
                assert names(here) - before == {"live"}
                assert everything - names(netns) == {"deadp", "dead-there", "dead-therep"}
                living.kill()
                assert [orphan.name for orphan in nk.reap(netns)] == ["livep", "live-there"]
        for left in ("dead-there-k", "live-there-k", "stranger"):
            NetkitPair.open(left, netns).delete()
        assert names(here) == before
        assert names(netns) == {"lo"}


def test_a_pair_says_whose_it_is_unless_its_maker_says_something_else(netns: NetNS) -> None:
    with NetkitPair.create("nk0", netns=netns) as pair:
        assert pair.primary.alias == pair.peer.alias == Owner.current().alias
    with NetkitPair.create("nk0", netns=netns, alias="uplink") as pair:
        assert (pair.primary.alias, pair.peer.alias) == ("uplink", "")
    with NetkitPair.create("nk0", netns=netns, alias="") as pair:
        assert (pair.primary.alias, pair.peer.alias) == ("", "")


def test_a_single_device_says_whose_it_is_too(netns: NetNS) -> None:
    try:
        with NetkitDevice.create("nk0", netns=netns) as device:
            assert device.alias == Owner.current().alias
    except NotSupportedError as error:
        assert error.needs == "7.1"  # noqa: PT017 - what an older kernel says
