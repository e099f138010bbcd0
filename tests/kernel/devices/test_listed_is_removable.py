"""What a device lists, addresses and routes of any kind, is taken off as it was listed: that one and no other."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

import pytest

from netkit_bpf import Device, NetkitPair, NetNS
from veth import veth_pair


@pytest.fixture
def pair() -> Iterator[NetkitPair]:
    """Devices without addresses of their own."""
    with NetNS.create() as here, NetNS.create() as there, veth_pair(here, there) as made:
        for end in (made.primary, made.peer):
            end.down()
            end.set(addrgenmode="none")
            end.up()
        yield made


@pytest.fixture
def device(pair: NetkitPair) -> Device:
    """One with networks to route over."""
    pair.primary.add_address("10.0.0.1/24")
    pair.primary.add_address("fd00::1/64")
    return pair.primary


def ip(device: Device, line: str) -> Any:
    done = device.netns.run(["ip", "-json", *line.split()], check=True, capture_output=True, text=True)
    return json.loads(done.stdout) if done.stdout.strip() else []


def routes(device: Device) -> list[str]:
    """In ip's own words, a line each."""
    found = []
    for family in ("-4", "-6"):
        argv = ["ip", "-oneline", family, "route"]
        found += device.netns.run(argv, check=True, capture_output=True, text=True).stdout.splitlines()
    return found


ADDRESSES = [
    "10.0.0.1 peer 10.0.0.2/32",
    "10.5.0.1 peer 10.9.0.2/24",
    "10.0.0.1/24",
    "10.1.0.1/24 broadcast 10.1.0.255 label ve0:x",
    "10.2.0.1/16 scope link",
    "10.3.0.1/8 scope host metric 7 noprefixroute",
    "169.254.1.1/16 scope link valid_lft 1000 preferred_lft 500",
    "fd00::1/64",
    "fd01::1 peer fd01::2/128",
    "fd02::1 peer fd03::2/64",
    "fd04::1/128 nodad home noprefixroute",
    "fe80::7/64 scope link",
    "fd05::1/96 valid_lft 1000 preferred_lft 0",
]


@pytest.mark.parametrize("line", ADDRESSES)
def test_an_address_of_any_kind_is_taken_off_as_it_is_listed(pair: NetkitPair, line: str) -> None:
    device = pair.primary
    ip(device, f"address add {line} dev ve0")
    (listed,) = device.addresses
    for other in ADDRESSES:
        if other != line:
            ip(device, f"address add {other} dev ve0")
    rest = sorted(map(str, device.addresses))
    rest.remove(str(listed))
    device.remove_address(listed)
    assert sorted(map(str, device.addresses)) == rest
    with pytest.raises(OSError, match=f"remove address {listed} from ve0: .*the device has no such address") as caught:
        device.remove_address(listed)
    assert caught.value.errno == errno.EADDRNOTAVAIL


def test_addresses_that_differ_in_their_peer_alone_are_told_apart(pair: NetkitPair) -> None:
    device = pair.primary

    def peers() -> set[str | None]:
        shown = ip(device, "-4 address show dev ve0")
        return {each.get("address") for each in (shown[0]["addr_info"] if shown else [])}

    for peer in ("10.9.0.2", "10.9.0.3"):
        device.add_address("10.0.0.1/32", peer=peer)
    device.add_address("10.0.0.1/32")
    assert device.addresses.count(ip_interface("10.0.0.1/32")) == 3
    assert peers() == {None, "10.9.0.2", "10.9.0.3"}
    device.remove_address("10.0.0.1/32", peer="10.9.0.3")
    assert peers() == {None, "10.9.0.2"}
    device.remove_address("10.0.0.1/32")
    assert peers() == {"10.9.0.2"}
    device.remove_address("10.0.0.1/32")
    assert peers() == set()
    device.add_address("fd01::1/128", peer="fd01::2")
    device.remove_address("fd01::1/128", peer="fd01::2")
    with pytest.raises(ValueError, match=r"peer 10\.0\.0\.2: fd01::1/64 has another family"):
        device.add_address("fd01::1/64", peer="10.0.0.2")


ROUTES = [
    "10.9.0.0/16 dev ve0",
    "10.9.0.0/16 dev ve0 metric 50",
    "10.9.0.0/16 dev ve0 scope global",
    "10.9.0.0/16 dev ve0 tos 0x10",
    "10.9.0.0/16 via 10.0.0.2",
    "10.9.0.0/16 via 10.0.0.2 src 10.0.0.1 mtu 1400 proto static",
    "10.9.0.0/16 via 192.168.7.7 dev ve0 onlink",
    "10.9.0.0/16 via inet6 fd00::2 dev ve0",
    "default via 10.0.0.2 metric 9",
    "fd09::/64 dev ve0",
    "fd09::/64 dev ve0 metric 5 proto 77",
    "fd09::/64 via fd00::2 metric 5",
    "fd09::/64 from fd00::/64 via fd00::2",
    "default via fd00::2 pref high",
]


@pytest.mark.parametrize("line", ROUTES)
def test_a_route_of_any_kind_is_taken_off_as_it_is_listed(device: Device, line: str) -> None:
    family = "-6" if "fd0" in line and "inet6" not in line else "-4"
    dst = line.split()[0]
    before = set(device.routes)
    ip(device, f"{family} route add {line}")
    (listed,) = set(device.routes) - before
    rest = routes(device)
    for more in (f"{dst} via {'fd00::3' if family == '-6' else '10.0.0.3'} metric 99", f"{dst} dev ve0 metric 98"):
        if str(listed) not in more:
            ip(device, f"{family} route add {more}")
    with_more = routes(device)
    device.remove_route(listed.dst, via=listed.via)
    (gone,) = set(with_more) - set(routes(device))
    assert gone in rest
    assert len(routes(device)) == len(with_more) - 1


@pytest.mark.parametrize("family", ["-4", "-6"])
def test_one_hop_of_several_is_taken_off_and_the_others_stay(device: Device, family: str) -> None:
    ip(device, "link add ve2 up type veth")
    second = Device.open("ve2", device.netns)
    dst, hops, far = ("10.9.0.0/16", ["10.0.0.2", "10.0.0.3"], "10.8.0.2")
    if family == "-6":
        dst, hops, far = ("fd09::/64", ["fd00::2", "fd00::3"], "fd01::2")
    second.add_address("fd01::1/64" if family == "-6" else "10.8.0.1/24")
    nexthops = " ".join(f"nexthop via {hop} dev ve0 weight {number}" for number, hop in enumerate(hops, 2))
    ip(device, f"{family} route add {dst} metric 7 {nexthops} nexthop via {far} dev ve2")

    def left() -> set[str]:
        return {str(route.via) for each in (device, second) for route in each.routes if str(route.dst) == dst}

    assert left() == {*hops, far}
    device.remove_route(dst, via=hops[0])
    assert left() == {hops[1], far}
    assert "weight 3" in " ".join(routes(device))
    assert "metric 7" in " ".join(routes(device))
    device.remove_route(dst, via=hops[1])
    assert left() == {far}
    second.remove_route(dst, via=far)
    assert left() == set()


@pytest.mark.parametrize("family", ["-4", "-6"])
def test_a_route_over_a_nexthop_object_is_taken_off(device: Device, family: str) -> None:
    dst, hops = ("fd09::/64", ["fd00::2", "fd00::3"]) if family == "-6" else ("10.9.0.0/16", ["10.0.0.2", "10.0.0.3"])
    for number, hop in enumerate(hops, 1):
        ip(device, f"nexthop add id {number} via {hop} dev ve0")
    ip(device, "nexthop add id 10 group 1/2")
    ip(device, f"{family} route add {dst} nhid 1")
    ip(device, f"{family} route add {dst} via {hops[0]} dev ve0 metric 2000")
    device.remove_route(dst, via=hops[0])
    assert [line for line in routes(device) if line.startswith(dst) and "nhid" in line] == []
    assert [line for line in routes(device) if line.startswith(dst) and "metric 2000" in line] != []
    device.remove_route(dst, via=hops[0])
    ip(device, f"{family} route add {dst} nhid 10")
    other = dst.replace("9", "8", 1)
    ip(device, f"{family} route add {other} nhid 10")
    device.remove_route(dst, via=hops[0])
    found = {(str(route.dst), str(route.via)) for route in device.routes}
    assert (dst, hops[0]) not in found
    assert {(dst, hops[1]), (other, hops[0]), (other, hops[1])} <= found  # the object is still that
    device.remove_route(dst, via=hops[1])
    assert dst not in " ".join(routes(device))


def test_no_other_route_is_taken_off_in_the_place_of_one_that_is_hidden(device: Device) -> None:
    ip(device, "-6 route add fd09::/64 via fd00::2 dev ve0 metric 5")
    ip(device, "-6 route append fd09::/64 dev ve0 metric 5")
    assert [str(route) for route in device.routes if str(route.dst) == "fd09::/64"] == [
        "fd09::/64 via fd00::2",
        "fd09::/64",
    ]
    with pytest.raises(OSError, match=r"would take off fd09::/64 via fd00::2 instead: remove that first"):
        device.remove_route("fd09::/64")
    device.remove_route("fd09::/64", via="fd00::2")
    device.remove_route("fd09::/64")
    assert "fd09" not in " ".join(routes(device))


def test_a_route_with_a_gateway_is_not_meant_by_one_without(device: Device) -> None:
    for dst, via in (("10.9.0.0/16", "10.0.0.2"), ("fd09::/64", "fd00::2")):
        device.add_route(dst, via=via)
        with pytest.raises(ProcessLookupError, match="there is no such route over this device"):
            device.remove_route(dst)
        device.remove_route(dst, via=via)


def test_what_a_device_says_of_itself_can_be_set(pair: NetkitPair) -> None:
    loopback = Device.open("lo", pair.primary.netns)
    assert loopback.mtu == 65536
    for device in (loopback, pair.primary):
        device.set_mtu(device.mtu)
        device.set(
            mtu=device.mtu, txqueuelen=device.txqueuelen, group=device.group, gso_max_size=device.gso_max_size,
            gso_max_segs=device.gso_max_segs, gro_max_size=device.gro_max_size, alias=device.alias,
            addrgenmode=device.addrgenmode,
        )  # fmt: skip
    loopback.set_mtu(60)
    assert loopback.mtu == 60
    with pytest.raises(OSError, match=r"set the mtu of ve0: .*mtu less than device minimum") as caught:
        pair.primary.set_mtu(67)
    assert caught.value.errno == errno.EINVAL


def test_all_changes_go_in_one_message(pair: NetkitPair) -> None:
    pair.primary.set(mtu=1400, txqueuelen=77, group=5, mac="02:00:00:00:00:07", alias="text", addrgenmode="none")
    device = pair.primary
    assert (device.mtu, device.txqueuelen, device.group, device.mac) == (1400, 77, 5, "02:00:00:00:00:07")
    assert (device.alias, device.addrgenmode) == ("text", "none")


def test_an_address_or_a_route_that_the_mtu_forbids_is_refused_with_that_reason(pair: NetkitPair) -> None:
    pair.primary.set_mtu(1279)
    with pytest.raises(
        OSError, match=r"add address fd00::1/64 to ve0: .*no IPv6 while its MTU is below 1280"
    ) as caught:
        pair.primary.add_address("fd00::1/64")
    assert caught.value.errno == errno.EINVAL
    with pytest.raises(OSError, match=r"add route fd01::/64 over ve0: .*has no IPv6: is its MTU below 1280"):
        pair.primary.add_route("fd01::/64")
    pair.primary.set_mtu(1280)
    pair.primary.add_address("fd00::1/64")
    loopback = Device.open("lo", pair.primary.netns)
    loopback.set_mtu(67)
    with pytest.raises(OSError, match=r"add address 10.0.0.1/24 to lo: .*no IPv4 while its MTU is below 68"):
        loopback.add_address("10.0.0.1/24")


def test_a_route_without_ipv6_is_refused_with_that_reason(pair: NetkitPair) -> None:
    pair.primary.netns.call(Path("/proc/sys/net/ipv6/conf/ve0/disable_ipv6").write_text, "1")
    with pytest.raises(PermissionError, match=r"add route fd01::/64 over ve0: .*IPv6 is disabled"):
        pair.primary.add_route("fd01::/64")
