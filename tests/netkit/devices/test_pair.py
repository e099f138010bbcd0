"""Making, opening and deleting pairs; what the kernel refuses leaves nothing behind."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest

from elsewhere import has, needs_macs, needs_scrub
from netkit_bpf import AddrGenMode, Mode, NetkitPair, NetNS, NotAPairError, NotSupportedError, Policy, Scrub, pairs
from netkit_bpf.devices.pair_options import PairOptions
from netkit_bpf.internal import kernel_release


@pytest.fixture
def here() -> Iterator[NetNS]:
    with NetNS.create() as made:
        yield made


def names(netns: NetNS) -> set[str]:
    import socket

    return {name for _, name in netns.call(socket.if_nameindex)}


@needs_macs
@needs_scrub
def test_a_new_pair_is_as_asked(here: NetNS) -> None:
    with NetkitPair.create(
        "nk0",
        peer_name="other",
        mode="l2",
        policy="blackhole",
        peer_policy="forward",
        scrub="default",
        peer_scrub="none",
        mtu=9000,
        peer_mtu=8000,
        mac="02:00:00:00:00:01",
        peer_mac="02:00:00:00:00:02",
        netns=here,
    ) as pair:
        assert pair.mode is Mode.L2
        assert (pair.policy, pair.peer_policy) == (Policy.BLACKHOLE, Policy.FORWARD)
        assert (pair.scrub, pair.peer_scrub) == (Scrub.DEFAULT, Scrub.NONE)
        assert (pair.primary.name, pair.peer.name) == ("nk0", "other")
        assert (pair.primary.mtu, pair.peer.mtu) == (9000, 8000)
        assert (pair.primary.mac, pair.peer.mac) == ("02:00:00:00:00:01", "02:00:00:00:00:02")
        assert pair.primary.is_up
        assert pair.peer.is_up
        pair.peer.down()
        assert not pair.peer.is_up


NET_ADDR_RANDOM, NET_ADDR_SET = 1, 3  # include/uapi/linux/netdevice.h


def address_kinds(netns: NetNS, *names: str) -> list[int]:
    """How each device came by its MAC address, as systemd-udevd looks at it."""
    shown = netns.run(["cat", *(f"/sys/class/net/{name}/addr_assign_type" for name in names)], capture_output=True)
    return [int(kind) for kind in shown.stdout.split()]


@needs_macs
def test_an_ethernet_pair_keeps_the_addresses_that_it_is_made_with(here: NetNS) -> None:
    with (
        NetkitPair.create("nk0", mode="l2", netns=here) as pair,
        NetkitPair.create("nk1", mode="l2", netns=here) as other,
    ):
        macs = {device.mac for each in (pair, other) for device in (each.primary, each.peer)}
        assert len(macs) == 4
        assert {int(mac[:2], 16) & 3 for mac in macs} == {2}  # local ones, of one device
        assert address_kinds(here, "nk0", "nk0p") == [NET_ADDR_SET, NET_ADDR_SET]
    with NetkitPair.create("nk0", mode="l2", mac="kernel", peer_mac="02:00:00:00:00:02", netns=here) as pair:
        assert address_kinds(here, "nk0", "nk0p") == [NET_ADDR_RANDOM, NET_ADDR_SET]
        assert pair.peer.mac == "02:00:00:00:00:02"


def test_the_defaults_are_the_documented_ones(here: NetNS) -> None:
    with NetkitPair.create(netns=here) as pair:
        assert (pair.primary.name, pair.peer.name) == ("nk0", "nk0p")
        assert pair.mode is Mode.L3
        assert (pair.policy, pair.peer_policy) == (Policy.FORWARD, Policy.FORWARD)
        assert pair.scrub is pair.peer_scrub is (Scrub.NONE if has("scrub") else Scrub.DEFAULT)
        assert pair.peer.mtu == pair.primary.mtu
        assert pair.primary.mac == "00:00:00:00:00:00"


def test_a_pair_made_down_stays_down(here: NetNS) -> None:
    with NetkitPair.create(netns=here, up=False) as pair:
        assert not pair.primary.is_up
        assert not pair.peer.is_up


@pytest.mark.parametrize("taken", ["nk0", "nk0p"])
def test_a_taken_name_is_refused_and_nothing_harmed(here: NetNS, taken: str) -> None:
    with NetkitPair.create(taken, peer_name="unrelated", netns=here) as before:
        with pytest.raises(FileExistsError, match="nk0 or nk0p is there already"):
            NetkitPair.create("nk0", netns=here)
        assert names(here) == {"lo", taken, "unrelated"}
        assert before.primary.is_up


def test_a_peer_name_that_is_taken_in_the_other_namespace_is_refused(here: NetNS) -> None:
    with NetNS.create() as there, NetkitPair.create("x0", peer_name="nk0p", netns=there):
        with pytest.raises(FileExistsError):
            NetkitPair.create("nk0", netns=here, peer_netns=there)
        assert names(here) == {"lo"}
        assert names(there) == {"lo", "x0", "nk0p"}


def test_deletion_is_idempotent_and_takes_both_ends(here: NetNS) -> None:
    with NetNS.create() as there:
        pair = NetkitPair.create(netns=here, peer_netns=there)
        assert names(there) == {"lo", "nk0p"}
        pair.delete()
        pair.delete()
        assert names(here) == names(there) == {"lo"}
        with pytest.raises(OSError, match="No such device") as caught:
            _ = pair.primary.mtu
        assert caught.value.errno == errno.ENODEV


def test_a_pair_whose_namespace_is_gone_deletes_quietly() -> None:
    with NetNS.create("nk-test-gone") as there:
        pair = NetkitPair.create(netns=there)
        there.delete()
        pair.delete()
    with NetNS.create() as here:
        again = NetNS.create()
        pair = NetkitPair.create(netns=here, peer_netns=again)
        again.delete()
        pair.delete()


@pytest.mark.parametrize("by", ["name", "peer's name", "ifindex"])
def test_open_finds_a_pair_from_either_end(here: NetNS, by: str) -> None:
    with NetkitPair.create(netns=here, policy="blackhole") as made:
        key = {"name": "nk0", "peer's name": "nk0p", "ifindex": made.peer.ifindex}[by]
        assert isinstance(key, (str, int))
        with NetkitPair.open(key, here) as pair:
            assert (pair.primary.ifindex, pair.peer.ifindex) == (made.primary.ifindex, made.peer.ifindex)
            assert (pair.policy, pair.peer_policy) == (Policy.BLACKHOLE, Policy.FORWARD)
        assert made.primary.is_up  # an opened pair is left


def test_open_finds_the_other_end_in_a_named_namespace(here: NetNS) -> None:
    with NetNS.create("nk-test-open") as there, NetkitPair.create(netns=here, peer_netns=there) as made:
        pair = NetkitPair.open("nk0", here)
        assert pair.peer.name == "nk0p"
        assert pair.peer.ifindex == made.peer.ifindex
        assert NetkitPair.open("nk0p", there).primary.name == "nk0"


def test_open_refuses_what_is_no_netkit_device(here: NetNS) -> None:
    with pytest.raises(NotAPairError, match="lo is a plain device, not a netkit device"):
        NetkitPair.open("lo", here)
    with pytest.raises(OSError, match="No such device"):
        NetkitPair.open("nk0", here)


def test_link_local_addresses_are_random_and_usable_at_once(here: NetNS) -> None:
    for mode in ("l2", "l3"):
        with NetkitPair.create(netns=here, mode=mode) as pair:
            first, second = pair.add_link_local()
            assert first != second
            assert str(first.network) == str(second.network) == "fe80::/64"
            assert first in pair.primary.addresses
            assert second in pair.peer.addresses
            import socket

            with here.socket(socket.AF_INET6, socket.SOCK_DGRAM) as bound:  # EADDRNOTAVAIL while it is tentative
                bound.bind((str(first.ip), 0, 0, pair.primary.ifindex))


def test_link_local_addresses_are_added_to_both_ends_or_to_none(here: NetNS) -> None:
    with NetkitPair.create(netns=here) as pair:
        here.call(_write, "/proc/sys/net/ipv6/conf/nk0p/disable_ipv6", "1")
        with pytest.raises(PermissionError, match="IPv6 is disabled"):
            pair.add_link_local()
        assert pair.primary.addresses == []


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def test_headroom_is_taken_or_refused_by_name(here: NetNS) -> None:
    if kernel_release.is_at_least("6.14"):
        with NetkitPair.create(netns=here, headroom=32, tailroom=8) as pair:
            assert (pair.headroom, pair.tailroom) == (32, 8)
    else:
        with pytest.raises(NotSupportedError, match=r"headroom.*needs Linux 6\.14.*this kernel is") as caught:
            NetkitPair.create(netns=here, headroom=32)
        assert (caught.value.feature, caught.value.needs) == ("netkit attribute headroom", "6.14")
        assert names(here) == {"lo"}


def test_what_ip_link_sets_is_set_on_each_end(here: NetNS) -> None:
    with NetNS.create() as there:
        options: PairOptions = {
            "alias": "of the primary", "peer_alias": "é", "group": 5, "txqueuelen": 7, "peer_txqueuelen": 8,
            "num_rx_queues": 2, "peer_num_rx_queues": 4, "gso_max_size": 100_000, "gso_max_segs": 9,
            "gro_max_size": 70_000, "gso_ipv4_max_size": 60_000, "gro_ipv4_max_size": 50_000, "addrgenmode": "random",
            "ifindex": 77, "peer_ifindex": 88,
        }  # fmt: skip
        with NetkitPair.create(netns=here, peer_netns=there, **options) as pair:
            primary, peer = pair.primary, pair.peer
            assert (primary.alias, peer.alias) == ("of the primary", "é")
            assert (primary.group, peer.group) == (5, 5)
            assert (primary.txqueuelen, peer.txqueuelen) == (7, 8)
            assert (primary.num_rx_queues, peer.num_rx_queues) == (2, 4)
            for end in (primary, peer):
                assert (end.gso_max_size, end.gso_max_segs, end.gro_max_size) == (100_000, 9, 70_000)
                assert (end.gso_ipv4_max_size, end.gro_ipv4_max_size) == (60_000, 50_000)
                assert end.addrgenmode is AddrGenMode.RANDOM
            assert (primary.ifindex, peer.ifindex) == (77, 88)
            assert primary.is_up
            assert peer.is_up


def test_several_transmit_queues_are_made_or_refused_by_name(here: NetNS) -> None:
    if kernel_release.is_at_least("7.1"):
        with pytest.raises(NotSupportedError, match=r"num_tx_queues: .*one transmit queue; this kernel is"):
            NetkitPair.create(netns=here, num_tx_queues=2)
        assert names(here) == {"lo"}
    else:
        with NetkitPair.create(netns=here, num_tx_queues=3, peer_num_tx_queues=2) as pair:
            assert (pair.primary.num_tx_queues, pair.peer.num_tx_queues) == (3, 2)


def test_an_asked_ifindex_is_given_even_if_it_is_the_next_in_turn() -> None:
    for number in (2, 3, 4, 50):
        with NetNS.create() as young, NetkitPair.create(netns=young, ifindex=number) as pair:
            assert pair.primary.ifindex == number
            with pytest.raises(FileExistsError, match="or one with that ifindex"):
                NetkitPair.create("nk1", netns=young, ifindex=number)
            with pytest.raises(OSError, match="the ifindex is taken"):
                NetkitPair.create("nk1", netns=young, ifindex=number + 100, peer_ifindex=number)
            assert names(young) == {"lo", "nk0", "nk0p"}


def test_pairs_are_listed_once_and_from_either_end(here: NetNS) -> None:
    with NetNS.create() as there:
        assert pairs(here) == []
        with NetkitPair.create("a", netns=here), NetkitPair.create("b", netns=here, peer_netns=there):
            assert [pair.primary.name for pair in pairs(here)] == ["a", "b"]
            assert [(pair.primary.name, pair.peer.name) for pair in pairs(there)] == [("b", "bp")]
        assert pairs(here) == pairs(there) == []
