"""Labs whose nodes are joined to one another: shapes, graphs, names, nodes that come and go, and labs as dicts."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Callable
from itertools import permutations

import pytest

from netkit_bpf import Lab, Monitor
from pytest_netkit_bpf.leaks import Resources

_IP_RECVTTL = 12  # which the module socket lacks


def hops(lab: Lab, sender: str, receiver: str) -> list[int]:
    """How many nodes a datagram passes from one to the other, over IPv6 and IPv4, by its hop limit."""
    left, right = lab[sender], lab[receiver]
    found = []
    for family, option, address in (
        (socket.AF_INET6, (socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT), right.address),
        (socket.AF_INET, (socket.IPPROTO_IP, _IP_RECVTTL), right.ipv4_address),
    ):
        with right.socket(family, socket.SOCK_DGRAM) as to, left.socket(family, socket.SOCK_DGRAM) as out:
            to.setsockopt(option[0], option[1], 1)
            to.bind((address, 4242))
            to.settimeout(10)
            out.sendto(b"?", (address, 4242))
            (_, _, limit), *_ = to.recvmsg(10, 100)[1]
            found.append(64 - int.from_bytes(limit[:4], "little"))
    return found


@pytest.mark.parametrize("mode", ["l3", "l2"])
@pytest.mark.parametrize(
    ("nodes", "shape", "expected"),
    [
        (4, "line", {("n1", "n2"): 0, ("n1", "n4"): 2, ("n4", "n1"): 2}),
        (4, "ring", {("n1", "n4"): 0, ("n1", "n3"): 1, ("n3", "n1"): 1}),
        (3, "mesh", dict.fromkeys(permutations(["n1", "n2", "n3"], 2), 0)),
        ({"a": ["left", "right"], "b": ["left"], "c": ["right"]}, None, {("b", "c"): 3, ("c", "b"): 3, ("a", "b"): 1}),
    ],
)
def test_packets_take_a_shortest_way(
    netkit_lab_factory: Callable[..., Lab],
    nodes: object,
    shape: str | None,
    expected: dict[tuple[str, str], int],
    mode: str,
) -> None:
    lab = netkit_lab_factory(nodes, shape=shape, mode=mode)
    assert {ends: hops(lab, *ends) for ends in expected} == {ends: [number] * 2 for ends, number in expected.items()}


def test_the_device_to_a_node_is_called_like_it(netkit_lab_factory: Callable[..., Lab]) -> None:
    lab = netkit_lab_factory(3, shape="line")
    names = {node.name: [name for _, name in node.call(socket.if_nameindex)] for node in lab}
    assert names == {"n1": ["lo", "n2"], "n2": ["lo", "n1", "n3"], "n3": ["lo", "n2"]}
    assert lab.n2.device("n3").name == "n3"
    assert lab.n2.device("n3").netns is lab.n2.netns
    assert lab.n2.links["n3"] is lab.n3.pair
    assert [pair.primary.name for pair in lab.pairs] == ["n2", "n3"]
    with pytest.raises(ValueError, match="node n2 has 2 links, not one"):
        _ = lab.n2.pair
    with pytest.raises(KeyError, match="no link joins 'n1' and 'n3': it has n2"):
        lab.n1.device("n3")
    with pytest.raises(ValueError, match="this lab has no hub"):
        _ = lab.hub


@pytest.mark.parametrize("shape", ["star", "line"])
def test_programs_know_the_nodes_by_their_names(netkit_lab_factory: Callable[..., Lab], shape: str) -> None:
    lab = netkit_lab_factory(["client", "router", "server"], shape=shape)
    done = lab["client"].run(["ping", "-q", "-c1", "-W10", "server"], stdout=subprocess.PIPE, text=True)
    assert done.returncode == 0, done.stdout
    found = lab["client"].run(["getent", "ahosts", "server"], stdout=subprocess.PIPE, text=True, check=True).stdout
    assert {lab["server"].address, lab["server"].ipv4_address} <= set(found.split())
    shown = lab["client"].run(["cat", "/etc/hosts"], stdout=subprocess.PIPE, text=True, check=True).stdout
    assert shown.splitlines()[:6] == [
        f"{address} {node.name}" for node in lab for address in (node.address, node.ipv4_address)
    ]
    with open("/etc/hosts", encoding="utf-8", errors="replace") as here:
        assert "server" not in here.read().split()
    # What the program sees in /sys is that of the node, as before.
    names = lab["client"].run(["ls", "/sys/class/net"], stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    assert sorted(names) == sorted(name for _, name in lab["client"].call(socket.if_nameindex))
    # And without names nothing is mounted.
    plain = lab["client"].netns.run(["cat", "/etc/hosts"], stdout=subprocess.PIPE, text=True)
    assert "server" not in plain.stdout.split()


@pytest.mark.parametrize("shape", ["star", "ring"])
def test_nodes_come_and_go_while_others_go_on(netkit_lab_factory: Callable[..., Lab], shape: str) -> None:
    lab = netkit_lab_factory(4, shape=shape)
    other = lab.n1.popen(["sleep", "1000"])
    with Monitor(*lab.pairs):
        lab.remove("n2")
        assert [node.name for node in lab] == ["n1", "n3", "n4"]
        assert other.poll() is None
        assert hops(lab, "n1", "n3") == hops(lab, "n3", "n1") == [1, 1]  # past n4, or the hub
        with pytest.raises(KeyError, match="no node 'n2'"):
            lab.remove("n2")
        new = lab.add("new", [] if shape == "star" else ["n1", "n3"])
        assert new.address == "fd42:0:0:2::2"  # the number is free again
        assert hops(lab, "new", "n4") == hops(lab, "n4", "new") == [1, 1]
        assert new.run(["ping", "-q", "-c1", "-W10", "n3"], stdout=subprocess.DEVNULL).returncode == 0
        process = new.popen(["sleep", "1000"])
        lab.remove("new")
        assert process.returncode == -9
        assert hops(lab, "n1", "n3") == [1, 1]
    with pytest.raises(ValueError, match="deleted"):
        new.run(["true"])


def test_what_cannot_be_added_changes_nothing(netkit_lab_factory: Callable[..., Lab]) -> None:
    star, line = netkit_lab_factory(2), netkit_lab_factory(2, shape="line")
    for lab, arguments, message in (
        (star, ("n1",), "cannot be called 'n1'"),
        (star, ("n3", ["n1"]), "a new node of a star is joined to the hub"),
        (line, ("n3", ["n9"]), "there is no node 'n9'"),
        (line, ("n3", ["n3"]), "cannot be joined to itself"),
        (line, ("a name of 16 by",), "must not contain"),
    ):
        before = Resources.now()
        with pytest.raises(ValueError, match=message):
            lab.add(*arguments)
        assert before.wait_until_back() == []
        assert [node.name for node in lab] == ["n1", "n2"]
        assert hops(lab, "n1", "n2") == [0 if lab is line else 1] * 2
    # The kernel refuses it in the middle: the device's name is taken in the neighbour.
    line.n1.run(["ip", "link", "add", "n3", "type", "dummy"], check=True)
    before = Resources.now()
    with pytest.raises(FileExistsError, match="n3"):
        line.add("n3", ["n2", "n1"])
    assert before.wait_until_back() == []
    assert [name for _, name in line.n2.call(socket.if_nameindex)] == ["lo", "n1"]
    line.n1.device("n2").down()
    with pytest.raises(OSError, match="over n2: Network is down"):
        line.add("n4", ["n2"])
    assert [node.name for node in line] == ["n1", "n2"]
    line.n1.device("n2").up()
    line.add("n4", ["n2"])
    assert hops(line, "n1", "n4") == [1, 1]
    with pytest.raises(ValueError, match="'a' is the last node of the lab"):
        netkit_lab_factory(["a"]).remove("a")


def test_a_device_that_is_down_hinders_no_other_node(netkit_lab_factory: Callable[..., Lab]) -> None:
    lab = netkit_lab_factory(5, shape="ring")
    lab.n1.device("n5").down()
    with pytest.raises(OSError, match="n5"):
        lab.remove("n2")  # n1 has to reach n3 by way of n5 now
    assert [node.name for node in lab] == ["n1", "n3", "n4", "n5"]
    assert hops(lab, "n3", "n5") == hops(lab, "n5", "n3") == [1, 1]


@pytest.mark.parametrize("shape", ["star", "ring"])
def test_a_device_that_was_down_comes_back_with_its_addresses_and_routes(
    netkit_lab_factory: Callable[..., Lab], shape: str
) -> None:
    lab = netkit_lab_factory(5, shape=shape)
    ends = [end for pair in lab.pairs for end in (pair.primary, pair.peer)]

    def state() -> list[tuple[list[str], list[str]]]:
        return [(sorted(map(str, end.addresses)), sorted(map(str, end.routes))) for end in ends]

    before = state()
    everyone = {names: hops(lab, *names) for names in [("n1", "n3"), ("n3", "n1"), ("n5", "n1")]}
    for end in ends[:2]:
        end.down()
        assert state() != before
        end.up()
        assert state() == before
        end.up()  # it was: nothing changes
        assert state() == before
    assert {names: hops(lab, *names) for names in everyone} == everyone


def test_a_way_that_was_wanted_while_its_device_was_down_is_there_afterwards(
    netkit_lab_factory: Callable[..., Lab],
) -> None:
    lab = netkit_lab_factory(5, shape="ring")
    device = lab.n1.device("n5")
    device.down()
    with pytest.raises(OSError, match="n5"):
        lab.remove("n2")
    device.up()
    assert hops(lab, "n1", "n3") == hops(lab, "n3", "n1") == [2, 2]


def test_a_process_that_starts_while_its_node_goes_is_killed(netkit_lab_factory: Callable[..., Lab]) -> None:
    lab = netkit_lab_factory(2)
    lab.n1._kill()  # what remove() and close() do first
    with pytest.raises(ValueError, match="node n1 was removed, or its lab closed"):
        lab.n1.popen(["sleep", "1000"])


def test_a_link_between_two_nodes_has_its_own_delay(netkit_lab_factory: Callable[..., Lab]) -> None:
    lab = netkit_lab_factory(3, shape="line")
    lab.link("n1", "n2", delay="30ms")
    lab.link("n3", loss=0.5)
    kinds = {
        (node.name, other): json.loads(
            node.run(["tc", "-j", "qdisc", "show", "dev", other], check=True, stdout=subprocess.PIPE).stdout
        )[0]["options"]
        for node in lab
        for other in node.links
    }
    assert {ends: "delay" in options for ends, options in kinds.items()} == {
        ("n1", "n2"): True,
        ("n2", "n1"): True,
        ("n2", "n3"): False,
        ("n3", "n2"): False,
    }
    assert kinds[("n2", "n3")]["loss-random"]["loss"] == 0.5
    for names in (("n1", "n3"), ("n1", "n1")):
        with pytest.raises(ValueError, match=f"no link joins '{names[0]}' and '{names[1]}'"):
            lab.link(*names, delay=1)


@pytest.mark.parametrize("nodes", [["hub", "b"], {"a": ["b"], "b": ["c"], "c": []}])
def test_a_lab_is_described_and_made_again(netkit_lab_factory: Callable[..., Lab], nodes: object) -> None:
    lab = netkit_lab_factory(nodes, mode="l2", mtu=9000)
    lab.link("b", delay="20ms", jitter="1ms", loss=0.01, rate="100mbit")
    described = lab.to_dict()
    with Lab.from_dict(json.loads(json.dumps(described))) as again:
        assert again.to_dict() == described
        assert [pair.primary.mtu for pair in again.pairs] == [9000] * 2
        assert [node.address for node in again] == [node.address for node in lab]


def test_a_dict_that_the_kernel_refuses_leaves_nothing() -> None:
    before = Resources.now()
    with pytest.raises(ValueError, match="cannot be called 'lo'"):
        Lab.from_dict({"nodes": ["a", "lo"]})
    assert before.wait_until_back() == []


def test_what_a_notebook_shows(netkit_lab_factory: Callable[..., Lab]) -> None:
    lab = netkit_lab_factory(4, shape="ring")
    lab.link("n1", "n2", delay="20ms")
    shown = lab._repr_html_()
    assert shown is not None
    assert shown.count("<path") >= 4
    assert "20 ms" in shown
    lab.close()
    assert lab._repr_html_() is None
