"""What is taken for the kernel's word: all of it, whole and consistent, and nobody else's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import ip_interface

import pytest

from elsewhere import need_device_kind, needs_user_namespaces
from forger import (
    IFLA_IFNAME,
    RTM_DELLINK,
    RTM_NEWLINK,
    RTNLGRP_LINK,
    acknowledgement,
    attribute,
    foreign_namespace,
    inside,
    link_message,
    netlink_ports,
    send_to_group,
    send_to_ports,
)
from held_calls import RECVMSG, run_with_held_calls
from netkit_bpf import Device, NetkitPair, NetNS
from netkit_bpf._core import device_list
from veth import veth_pair

PATIENCE = 20.0  # seconds: far longer than anything takes


@pytest.fixture
def pair() -> Iterator[NetkitPair]:
    with NetNS.create() as here, NetNS.create() as there, veth_pair(here, there) as made:
        yield made


def forged_answers(port: int) -> bytes:
    """Answers to what a socket that counts its requests from 1 may ask next."""
    forged = attribute(IFLA_IFNAME, b"forged\0")
    return b"".join(
        link_message(RTM_NEWLINK, 4711, forged, sequence, port) + acknowledgement(sequence, port)
        for sequence in range(1, 20)
    )


@needs_user_namespaces
def test_answers_that_a_process_sends_do_not_even_arrive() -> None:
    with foreign_namespace() as holder, NetNS.open(holder.pid) as netns:
        assert Device.open("lo", netns).name == "lo"
        assert inside(holder.pid, lambda: str(netlink_ports())) != "[]"
        sent = inside(holder.pid, lambda: ",".join(send_to_ports(forged_answers)))
        assert set(sent.split(",")) == {"Connection refused"}
        device = Device.open("lo", netns)
        assert (device.name, device.ifindex, device.addresses) == ("lo", 1, [])


@needs_user_namespaces
def test_what_a_process_tells_a_group_is_not_believed() -> None:
    with foreign_namespace() as holder, NetNS.create() as here, NetNS.open(holder.pid) as there:
        with veth_pair(here, there) as pair, here.call(pair.watch) as watch:
            number = pair.peer.ifindex
            gone = link_message(RTM_DELLINK, number, attribute(IFLA_IFNAME, b"ve1\0"))
            assert inside(holder.pid, lambda: send_to_group(RTNLGRP_LINK, gone)) == "sent"
            renamed = link_message(RTM_NEWLINK, number, attribute(IFLA_IFNAME, b"forged\0"))
            assert inside(holder.pid, lambda: send_to_group(RTNLGRP_LINK, renamed)) == "sent"
            pair.peer.down()
            assert str(watch.read(PATIENCE)) == "[peer] ve1 down"


def test_an_answer_of_more_than_64_kib_is_taken_whole(pair: NetkitPair) -> None:
    device = pair.primary
    names = [f"{number:0>127}" for number in range(492)]  # 127 bytes each, about as many as the kernel takes
    script = "".join(f"link property add dev ve0 altname {name}\n" for name in names)
    device.netns.run(["ip", "-batch", "-"], input=script, text=True, check=True)
    device.set_mtu(1400)
    assert (device.name, device.mtu, device.is_up) == ("ve0", 1400, True)
    assert [info.number("mtu") for info in device_list(device.netns._netlink(), "veth")] == [1400]
    with device.netns.call(pair.watch) as watch:
        device.down()
        assert str(watch.read(PATIENCE)) == "[primary] ve0 down"


def test_a_list_that_changes_while_it_is_read_is_read_anew(pair: NetkitPair) -> None:
    """Else it lacks an address or has one twice: new ones come first, and move all others."""
    device = pair.primary
    still = {ip_interface(f"fd00::{number:x}/64") for number in range(1, 3000)}  # of several datagrams
    for address in still:
        device.add_address(address)

    def listed(at: int, meanwhile: Callable[[], object]) -> int:
        """Read the list, something happening before a datagram of it; returns how many that took."""
        datagrams = [0]

        def change_before_one() -> None:
            datagrams[0] += 1
            if datagrams[0] == at:
                meanwhile()

        found = run_with_held_calls(lambda: device.addresses, RECVMSG, change_before_one)
        assert sorted(each for each in found if each in still) == sorted(still)
        return datagrams[0]

    with device.netns.call(NetNS.current) as same:  # with a socket of its own
        moving = Device.open(device.ifindex, same)
        quiet = listed(0, lambda: None)
        taken = []
        for at in range(1, quiet + 1):
            taken.append(listed(at, lambda: moving.add_address("fd01::1/64")))
            taken.append(listed(at, lambda: moving.remove_address("fd01::1/64", peer="fd01::1")))  # which reads no list
    assert max(taken) > quiet


@pytest.mark.parametrize("kind", [["veth", "peer", "name", "ve1"], ["ifb"]], ids=lambda kind: str(kind[0]))
def test_an_end_is_none_of_a_pair_that_its_other_end_does_not_know(pair: NetkitPair, kind: list[str]) -> None:
    """The number of a device may be another one's by the time that it is used."""
    need_device_kind(kind[0])
    stale = pair.peer._read()
    number = str(pair.primary.ifindex)
    here, there = pair.primary.netns, pair.peer.netns
    found = NetkitPair._from_info(stale, there)
    assert found is not None
    assert found.primary.name == "ve0"
    pair.delete()
    here.run(["ip", "link", "add", "stranger", "index", number, "type", *kind], check=True)
    with pytest.raises(OSError, match="look up the other end of ve1: it was deleted meanwhile"):
        NetkitPair._from_info(stale, there)
    here.run(["ip", "link", "delete", "stranger"], check=True)
