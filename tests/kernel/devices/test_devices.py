"""Devices of any kind: what is set is read back, and errors speak of the device by its name."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
import subprocess
from collections.abc import Iterator
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from netkit_bpf import Device, NetkitPair, NetNS, Route
from traffic import End, send_datagrams
from veth import veth_pair


@pytest.fixture
def spaces() -> Iterator[tuple[NetNS, NetNS]]:
    with NetNS.create() as here, NetNS.create() as there:
        yield here, there


@pytest.fixture
def pair(spaces: tuple[NetNS, NetNS]) -> Iterator[NetkitPair]:
    with veth_pair(*spaces) as made:
        yield made


def names(netns: NetNS) -> set[str]:
    return {name for _, name in netns.call(socket.if_nameindex)}


def test_loopback_is_opened_by_name_and_set_up(spaces: tuple[NetNS, NetNS]) -> None:
    loopback = Device.open("lo", spaces[0])
    assert not loopback.is_up
    loopback.up()
    assert loopback.is_up
    assert loopback.kind == ""
    assert ip_interface("127.0.0.1/8") in loopback.addresses
    assert Device.open(loopback.ifindex, spaces[0]).name == "lo"


def test_what_is_set_is_read_back(pair: NetkitPair) -> None:
    device = pair.primary
    device.set_mtu(9000)
    device.set_group(7)
    device.set_alias("a text, é")
    assert (device.mtu, device.group, device.alias) == (9000, 7, "a text, é")
    device.set_alias("")
    assert device.alias == ""
    assert device.txqueuelen > 0
    assert device.num_tx_queues >= 1
    assert device.num_rx_queues >= 1
    assert device.gso_max_size >= 65536
    assert device.gso_max_segs == 65535
    assert device.gro_max_size >= 65536
    assert device.addrgenmode == "eui64"
    assert device.kind == "veth"


def test_what_the_kernel_refuses_names_the_device(pair: NetkitPair) -> None:
    for mtu in (68, 65535):  # the whole range that is documented
        pair.primary.set_mtu(mtu)
    pair.primary.down()  # before Linux 6.2 it must be
    with pytest.raises(FileExistsError, match=r"rename ve0 to lo: .*there is a device lo already"):
        pair.primary.rename("lo")


def test_a_renamed_device_is_followed(pair: NetkitPair) -> None:
    pair.primary.down()  # before Linux 6.2 it must be
    pair.primary.rename("other")
    assert pair.primary.name == "other"
    assert "other" in repr(pair.primary)
    pair.primary.rename("x" * 15)
    assert pair.primary.name == "x" * 15


def test_a_name_and_an_alias_that_are_no_text_are_shown_marked(pair: NetkitPair) -> None:
    netns, peer = pair.primary.netns, pair.peer.name
    pair.primary.down()  # before Linux 6.2 it must be, to be renamed
    netns.run(
        ["ip", "link", "set", "ve0", "name", os.fsdecode(b"ve\xff"), "alias", os.fsdecode(b"by \x80")], check=True
    )
    assert (pair.primary.name, pair.primary.alias) == (r"ve\xff", r"by \x80")
    assert Device.open(pair.primary.ifindex, netns).name == r"ve\xff"
    with pytest.raises(FileExistsError, match=r"rename ve\\xff to lo: .*there is a device lo already"):
        pair.primary.rename("lo")
    with pair.watch() as watch:
        pair.primary.rename("日本語日本")
        assert str(watch.read(20)) == "[primary] 日本語日本 renamed"
    assert Device.open("日本語日本", netns).ifindex == pair.primary.ifindex
    assert pair.peer.name == peer


def test_an_error_speaks_of_the_last_known_name(pair: NetkitPair) -> None:
    pair.primary.down()  # before Linux 6.2 it must be, to be renamed
    pair.primary.netns.run(["ip", "link", "set", "ve0", "name", "renamed"], check=True)
    assert pair.primary.name == "renamed"
    pair.delete()
    with pytest.raises(OSError, match=r"look up device renamed: No such device .deleted, moved, or never") as caught:
        _ = pair.primary.mtu
    assert caught.value.errno == errno.ENODEV
    with pytest.raises(OSError, match="set renamed up: No such device"):
        pair.primary.up()
    with pytest.raises(OSError, match="look up device nothing: No such device"):
        Device.open("nothing", pair.primary.netns)


def test_a_moved_device_is_followed(pair: NetkitPair, spaces: tuple[NetNS, NetNS]) -> None:
    with NetNS.create() as third:
        pair.primary.move(third)
        assert names(spaces[0]) == {"lo"}
        assert names(third) == {"lo", "ve0"}
        assert pair.primary.netns is third
        assert not pair.primary.is_up
        pair.primary.up()
        pair.primary.add_address("fd00::1/64")
        pair.peer.add_address("fd00::2/64")
        send_datagrams(End(third, "fd00::1"), End(spaces[1], "fd00::2"), [10])
        pair.primary.move(third)  # where it is
        assert pair.primary.is_up


def test_a_moved_device_may_get_another_number(pair: NetkitPair, spaces: tuple[NetNS, NetNS]) -> None:
    with NetNS.create() as third:
        taken = str(pair.primary.ifindex)
        third.run(["ip", "link", "add", "type", "veth"], check=True)  # or that one's other end takes the number
        third.run(["ip", "link", "delete", "veth0"], check=True)
        third.run(["ip", "link", "add", "taken", "index", taken, "type", "veth"], check=True)
        pair.primary.move(third)
        assert pair.primary.ifindex != int(taken)
        assert pair.primary.name == "ve0"


def test_a_move_is_refused_where_the_name_is_taken(pair: NetkitPair, spaces: tuple[NetNS, NetNS]) -> None:
    with NetNS.create() as third:
        third.run(["ip", "link", "add", "ve0", "type", "veth"], check=True)
        with pytest.raises(FileExistsError, match=r"move ve0 .*there is a device ve0 already"):
            pair.primary.move(third)
        assert pair.primary.is_up  # nothing happened
    with pytest.raises(OSError, match=r"move lo .*cannot leave its network namespace"):
        Device.open("lo", spaces[0]).move(spaces[1])


def test_the_address_mode_survives_a_move(pair: NetkitPair) -> None:
    pair.primary.netns.run(["ip", "link", "set", "ve0", "addrgenmode", "none"], check=True)
    assert pair.primary.addrgenmode == "none"
    with NetNS.create() as third:
        pair.primary.move(third)
        assert pair.primary.addrgenmode == "none"


def test_routes_are_added_listed_and_removed(pair: NetkitPair) -> None:
    device = pair.primary
    device.add_address("10.0.0.1/24")
    device.add_address("fd00::1/64")
    device.add_route("10.1.0.0/16")
    device.add_route("10.2.0.0/16", via="10.0.0.2")
    device.add_route("10.3.0.0/16", via="fd00::2")
    device.add_route("fd01::/64")
    device.add_route(ip_network("fd02::/64"), via=ip_address("fd00::2"))
    device.add_route("default", via="fd00::2")
    device.add_route("default")
    wanted = {
        Route(ip_network("10.0.0.0/24"), None),
        Route(ip_network("10.1.0.0/16"), None),
        Route(ip_network("10.2.0.0/16"), ip_address("10.0.0.2")),
        Route(ip_network("10.3.0.0/16"), ip_address("fd00::2")),
        Route(ip_network("0.0.0.0/0"), None),
        Route(ip_network("fd00::/64"), None),
        Route(ip_network("fd01::/64"), None),
        Route(ip_network("fd02::/64"), ip_address("fd00::2")),
        Route(ip_network("::/0"), ip_address("fd00::2")),
    }
    assert wanted <= set(device.routes)
    assert {str(route) for route in wanted} >= {"default", "default via fd00::2", "10.2.0.0/16 via 10.0.0.2"}
    assert not any(route.dst in {each.dst for each in wanted} for route in pair.peer.routes)
    for dst, via in (
        ("10.1.0.0/16", None), ("10.2.0.0/16", "10.0.0.2"), ("10.3.0.0/16", "fd00::2"), ("fd01::/64", None),
        ("fd02::/64", "fd00::2"), ("default", "fd00::2"), ("default", None),
    ):  # fmt: skip
        device.remove_route(dst, via=via)
    assert {str(route.dst) for route in device.routes} - {"fe80::/64"} == {"10.0.0.0/24", "fd00::/64"}


def test_one_hop_of_several_is_listed(pair: NetkitPair) -> None:
    pair.primary.add_address("10.0.0.1/24")
    hops = ["nexthop", "via", "10.0.0.2", "dev", "ve0", "nexthop", "via", "10.0.0.3", "dev", "ve0"]
    pair.primary.netns.run(["ip", "route", "add", "10.9.0.0/16", *hops], check=True)
    found = [route.via for route in pair.primary.routes if route.dst == ip_network("10.9.0.0/16")]
    assert found == [ip_address("10.0.0.2"), ip_address("10.0.0.3")]


def test_an_impossible_route_is_refused_with_its_reason(pair: NetkitPair) -> None:
    device = pair.primary
    device.add_route("fd01::/64")
    with pytest.raises(FileExistsError, match=r"add route fd01::/64 over ve0: .*this route exists already"):
        device.add_route("fd01::/64")
    with pytest.raises(OSError, match=r"add route default via 10.0.0.2 over ve0: .*the gateway is not on a network"):
        device.add_route("default", via="10.0.0.2")
    with pytest.raises(ProcessLookupError, match=r"remove route fd02::/64 over ve0: .*no such route over this device"):
        device.remove_route("fd02::/64")
    device.add_address("10.0.0.1/24")
    device.add_address("fd00::1/64")
    device.down()
    for dst, via in (("fd03::/64", None), ("fd03::/64", "fd00::2"), ("10.1.0.0/16", "10.0.0.2")):
        with pytest.raises(OSError, match=rf"add route {dst} .*over ve0: .*the device is down") as caught:
            device.add_route(dst, via=via)
        assert caught.value.errno == errno.ENETDOWN


def test_statistics_count_what_was_sent(pair: NetkitPair, spaces: tuple[NetNS, NetNS]) -> None:
    pair.primary.add_address("fd00::1/64")
    pair.peer.add_address("fd00::2/64")
    before = pair.primary.statistics, pair.peer.statistics
    send_datagrams(End(spaces[0], "fd00::1"), End(spaces[1], "fd00::2"), [1000] * 5)
    after = pair.primary.statistics, pair.peer.statistics
    assert after[0].tx_packets - before[0].tx_packets >= 5
    assert after[0].tx_bytes - before[0].tx_bytes >= 5000
    assert after[1].rx_packets - before[1].rx_packets >= 5
    assert after[0].tx_dropped == before[0].tx_dropped


def test_a_namespace_is_opened_by_the_path_of_a_process() -> None:
    with NetNS.create() as netns, netns.popen(["sleep", "60"], stdin=subprocess.DEVNULL) as process:
        try:
            for which in (process.pid, f"/proc/{process.pid}/ns/net"):
                with NetNS.open(which) as opened:
                    assert names(opened) == {"lo"}
        finally:
            process.kill()


def test_a_pair_is_not_thought_gone_because_its_namespace_was_let_go(pair: NetkitPair) -> None:
    with NetNS.open(f"/proc/self/fd/{pair.primary.netns.fileno()}") as opened:
        same = NetkitPair(Device.open(pair.primary.ifindex, opened), None, owned=True)
    with pytest.raises(ValueError, match="has released its network namespace"):
        same.delete()
    assert pair.primary.is_up


@pytest.mark.parametrize("name", ["short", "x" * 16, "é" * 60 + "1234567", "a:b,%d.and.more", "all", "🦀" * 31])
def test_a_device_is_found_by_an_alternative_name(pair: NetkitPair, name: str) -> None:
    pair.primary.netns.run(["ip", "link", "property", "add", "dev", "ve0", "altname", name], check=True)
    found = Device.open(name, pair.primary.netns)
    assert (found.ifindex, found.name) == (pair.primary.ifindex, "ve0")
    with pytest.raises(OSError, match="No such device"):
        Device.open(name[:-1], pair.primary.netns)


def test_what_is_no_name_at_all_is_refused() -> None:
    for name, text in {
        "": "name is empty",
        "x" * 128: "has 128 bytes, an alternative device name at most 127",
        "a\0b": "must not contain NUL",
    }.items():
        with pytest.raises(ValueError, match=text):
            Device.open(name)


def kernel_takes(netns: NetNS, name: str, new: str) -> bool:
    """Rename a device by ioctl(2), SIOCSIFNAME, which asks nobody but the kernel."""
    with netns.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        try:
            fcntl.ioctl(any_socket, 0x8923, struct.pack("16s16s", name.encode(), new.encode()))
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            return False
    return True


def test_a_letter_is_refused_in_a_name_where_the_kernel_refuses_it(pair: NetkitPair) -> None:
    device = pair.primary
    device.down()  # before 6.2 it must be
    for number in (*range(1, 0x180), 0x1680, *range(0x2000, 0x2070), 0x3000, 0xFEFF, 0x1F620):
        letter = chr(number)
        if letter == "%":
            continue  # a pattern, to the kernel too
        if kernel_takes(device.netns, "ve0", f"a{letter}"):
            device.rename(f"b{letter}")
            assert device.name == f"b{letter}"
            device.rename("ve0")
        else:
            with pytest.raises(ValueError, match="must not contain"):
                device.rename(f"b{letter}")


def test_an_address_is_delivered_to_when_it_was_added(pair: NetkitPair) -> None:
    here = pair.primary.netns
    Device.open("lo", here).up()  # over which a packet to an own address goes
    for number in range(1, 101):  # a datagram to an address that is not delivered to yet leaves by the device
        pair.primary.add_address(f"fd00:1::{number:x}/64")
        end = End(here, f"fd00:1::{number:x}")
        send_datagrams(end, end, [100])


def test_a_rule_that_keeps_packets_from_an_address_does_not_keep_it_from_the_device(pair: NetkitPair) -> None:
    here = pair.primary.netns
    pair.primary.wait_ready(timeout=20)
    here.run(["ip", "-6", "rule", "add", "pref", "1", "blackhole"], check=True)
    here.run(["ip", "-6", "rule", "del", "pref", "0"], check=True)  # nobody looks into the table "local" any more
    pair.primary.add_address("fd00:1::1/64")
    assert ip_interface("fd00:1::1/64") in pair.primary.addresses
    with pytest.raises(TimeoutError, match="are not delivered yet"):
        pair.primary.wait_ready(timeout=0.2)
