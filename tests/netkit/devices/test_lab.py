"""A lab: all reach all, nothing outside is touched, and nothing is left, wherever construction fails."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import permutations
from pathlib import Path

import pytest

from netkit_bpf import Lab, Mode, Monitor
from pytest_netkit_bpf.leaks import Resources
from traffic import End, ping


def reach(lab: Lab, sender: str, receiver: str, size: int = 56) -> list[int]:
    """The replies over IPv6 and over IPv4."""
    left, right = lab[sender], lab[receiver]
    ends = [(left.address, right.address), (left.ipv4_address, right.ipv4_address)]
    return [ping(End(left.netns, source), End(right.netns, target), [size]) for source, target in ends]


@pytest.mark.parametrize("mode", ["l3", "l2"])
def test_all_nodes_reach_all_others(netkit_lab_factory: Callable[..., Lab], mode: str) -> None:
    lab = netkit_lab_factory(nodes=3, mode=mode)
    assert [node.pair.mode for node in lab] == [Mode(mode)] * 3
    for sender, receiver in permutations(["n1", "n2", "n3"], 2):
        assert reach(lab, sender, receiver) == [1, 1], (sender, receiver)


def test_the_machine_stays_as_it_is_and_out_of_reach(netkit_lab: Lab) -> None:
    def forwarding() -> list[str]:
        return [Path(f"/proc/sys/net/{path}").read_text() for path in ("ipv4/ip_forward", "ipv6/conf/all/forwarding")]

    assert netkit_lab.hub.call(forwarding) == ["1\n", "1\n"]
    assert forwarding() == ["0\n", "0\n"]
    for node in netkit_lab:
        assert node.call(forwarding) == ["0\n", "0\n"]
        assert node.call(socket.if_nameindex) == [(1, "lo"), (node.pair.peer.ifindex, "nk0")]
        assert node.run(["ping", "-c1", "-W5", "::1"], stdout=subprocess.DEVNULL).returncode == 0
    hub = [name for _, name in netkit_lab.hub.call(socket.if_nameindex)]
    assert hub == ["lo", "n1", "n2", "n3"]


def test_nodes_have_the_names_and_the_mtu_that_were_asked_for(netkit_lab_factory: Callable[..., Lab]) -> None:
    lab = netkit_lab_factory(["client", "server"], mtu=9000)
    assert [node.name for node in lab.nodes] == ["client", "server"]
    assert [(pair.primary.name, pair.primary.mtu, pair.peer.mtu) for pair in lab.pairs] == [
        ("client", 9000, 9000),
        ("server", 9000, 9000),
    ]
    with Monitor(*lab.pairs) as monitor:
        assert reach(lab, "client", "server", 8000) == [1, 1]
        lengths = {event.length for event in monitor.events(timeout=0.5) if event.icmp_type in (8, 0, 128, 129)}
    assert min(lengths) > 8000  # in one piece
    with pytest.raises(KeyError, match=r"no node 'n1' in this lab: there are client, server"):
        lab["n1"]


def test_a_monitor_of_a_lab_sees_each_hop(netkit_lab: Lab) -> None:
    with Monitor(*netkit_lab.pairs) as monitor:
        assert reach(netkit_lab, "n1", "n3") == [1, 1]
        events = [event for event in monitor.events(timeout=0.5) if event.icmp_type in (8, 128)]
    assert [(event.pair_name, str(event.side), event.hop_limit) for event in events] == [
        ("n1", "peer", 64),
        ("n3", "primary", 63),
    ] * 2
    assert {str(event.dst) for event in events} == {netkit_lab["n3"].address, netkit_lab["n3"].ipv4_address}


def test_two_labs_do_not_meet(netkit_lab_factory: Callable[..., Lab]) -> None:
    first, second = netkit_lab_factory(2), netkit_lab_factory(2)
    with second["n2"].socket(socket.AF_INET6, socket.SOCK_DGRAM) as other:
        other.bind((second["n2"].address, 4242))
        with first["n1"].socket(socket.AF_INET6, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"?", (first["n2"].address, 4242))
        other.settimeout(0.2)
        with pytest.raises(TimeoutError):
            other.recv(1)


def test_closing_kills_what_still_runs_and_can_be_repeated() -> None:
    lab = Lab(1)
    process = lab["n1"].popen(["sleep", "1000"])
    with lab["n1"].popen(["true"]) as ended:
        ended.wait()
    lab.close()
    lab.close()
    assert process.returncode == -9
    with pytest.raises(ValueError, match="deleted"):
        lab["n1"].run(["true"])


def test_a_lab_whose_devices_were_deleted_from_inside_closes_quietly() -> None:
    with Lab(2) as lab:
        for node in lab:
            node.run(["ip", "link", "delete", "nk0"], check=True)


@contextmanager
def most_fds(number: int) -> Iterator[None]:
    """The kernel refuses this process any descriptor whose number is not lower."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (number, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_wherever_construction_runs_out_of_descriptors_nothing_is_left() -> None:
    Lab(2).close()  # what is made once is made now
    before = Resources.now()
    spare = 0
    while refusal := refused_with(spare):
        assert "Too many open files" in refusal
        assert before.wait_until_back() == [], spare
        spare += 1
    assert spare > 3  # namespaces of the hub and of both nodes, and a socket: each was refused once


def refused_with(spare: int) -> str | None:
    """What a lab says that may open so many descriptors at once; None if they suffice. The error itself is let go."""
    first_free = os.open("/dev/null", os.O_RDONLY)
    os.close(first_free)
    try:
        with most_fds(first_free + spare):
            Lab(2).close()
    except OSError as error:
        return str(error)
    return None


def test_a_signal_handler_may_close_a_lab_while_it_is_closed() -> None:
    """On the thread that is in `close` already."""
    lab = Lab(2)
    lab._cleanup.callback(signal.raise_signal, signal.SIGUSR1)  # the first step of closing
    previous = signal.signal(signal.SIGUSR1, lambda *_: lab.close())
    try:
        lab.close()
    finally:
        signal.signal(signal.SIGUSR1, previous)
    assert lab.closed
    assert repr(lab) == "<Lab n1, n2 closed>"
