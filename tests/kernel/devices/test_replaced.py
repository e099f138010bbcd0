"""A device's number can be given to another device: that one is left alone."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterator

import pytest

from elsewhere import need_device_kind
from netkit_bpf import Device, NetkitPair, NetNS
from netkit_bpf.devices.owner import Owner
from veth import has_tcx, veth_pair


@pytest.fixture
def pair() -> Iterator[NetkitPair]:
    with NetNS.create() as here, NetNS.create() as there, veth_pair(here, there) as made:
        made.primary.set_alias("ours")
        assert made.primary.alias == "ours"
        yield made


def names(netns: NetNS) -> set[str]:
    return {name for _, name in netns.call(socket.if_nameindex)} - {"lo"}


def put_in_its_place(pair: NetkitPair, *kind: str) -> None:
    """Delete the pair, and make another device with the name and the number of its primary."""
    netns = pair.primary.netns
    netns.run(["ip", "link", "delete", "ve0"], check=True)
    netns.run(["ip", "link", "add", "ve0", "index", str(pair.primary.ifindex), "type", *kind], check=True)


@pytest.mark.parametrize("kind", [["veth", "peer", "name", "x"], ["bridge"]], ids=lambda kind: str(kind[0]))
def test_neither_changed_nor_deleted_is_what_has_a_devices_number(pair: NetkitPair, kind: list[str]) -> None:
    need_device_kind(kind[0])
    device = pair.primary
    put_in_its_place(pair, *kind)
    attempts: list[Callable[[], object]] = [
        lambda: device.mtu,
        lambda: device.addresses,
        device.up,
        lambda: device.set_mtu(1400),
        lambda: device.rename("mine"),
        lambda: device.add_address("fd00::1/64"),
        lambda: device.add_route("fd01::/64"),
        lambda: device.move(pair.peer.netns),
    ]
    if has_tcx():
        attempts += [lambda: device.programs("ingress"), lambda: pair.hook("peer").revision]
    for attempt in attempts:
        with pytest.raises(
            OSError, match=r"ve0: it was deleted, and its number \d+ belongs to another device now, ve0"
        ) as caught:
            attempt()
        assert caught.value.errno == errno.ENODEV
    pair.delete()
    there = Device.open("ve0", device.netns)
    assert (there.ifindex, there.mtu, there.is_up) == (device.ifindex, 1500, False)
    assert names(pair.peer.netns) == set()
    there.netns.run(["ip", "link", "delete", "ve0"], check=True)


def test_a_pair_that_another_process_made_alike_with_the_same_numbers_is_left_alone(netns: NetNS) -> None:
    def make(owner: Owner) -> None:
        line = "link add ve0 index 500 type veth peer name ve1 index 501\n"
        aliases = "".join(f"link set {end} alias '{owner.alias}'\n" for end in ("ve0", "ve1"))
        netns.run(["ip", "-batch", "-"], input=line + aliases, text=True, check=True)

    make(Owner.current())
    pair = NetkitPair(Device.open("ve0", netns), Device.open("ve1", netns), owned=True)
    netns.run(["ip", "link", "delete", "ve0"], check=True)
    make(Owner.current()._replace(pid=1))
    with pytest.raises(OSError, match="ve0: it was deleted, and its number 500 belongs to another device now, ve0"):
        assert pair.primary.name
    pair.delete()
    assert names(netns) == {"ve0", "ve1"}


def test_a_pair_is_itself_however_its_alias_changes(pair: NetkitPair) -> None:
    for alias in (Owner.current().alias, "uplink", Owner.current()._replace(pid=1).alias, ""):
        pair.primary.set_alias(alias)
        assert pair.primary.alias == alias


def test_a_pair_is_itself_however_its_ends_are_renamed_and_moved(pair: NetkitPair) -> None:
    """The number of an end changes where another device has it."""
    home = pair.peer.netns
    with NetNS.create() as other:
        for _ in range(10):
            other.run(["ip", "link", "add", "type", "veth"], check=True)
        before = pair.peer.ifindex
        pair.peer.move(other)
        assert pair.peer.ifindex != before
        pair.peer.rename("renamed")
        pair.peer.move(home)
        assert pair.primary.mtu == 1500
        pair.primary.move(other)
        pair.primary.set_mtu(1400)
        assert (pair.primary.mtu, pair.peer.name) == (1400, "renamed")
        pair.delete()
        assert not {"ve0", "renamed"} & (names(other) | names(home))


def test_a_peer_that_somebody_else_moves_does_not_make_the_pair_another(pair: NetkitPair) -> None:
    with NetNS.create() as other, other.popen(["sleep", "60"]) as holder:
        for _ in range(10):
            other.run(["ip", "link", "add", "type", "veth"], check=True)
        pair.peer.netns.run(["ip", "link", "set", "ve1", "netns", str(holder.pid)], check=True)
        assert pair.primary.mtu == 1500
        pair.delete()
        holder.kill()
        assert "ve1" not in names(other)
