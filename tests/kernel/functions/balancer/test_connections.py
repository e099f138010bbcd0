# SPDX-License-Identifier: MIT
"""The load balancer on the tcx hooks of veth pairs: where connections go, and how their packets come out."""

from __future__ import annotations

import socket
import threading
from collections import Counter
from contextlib import ExitStack
from ipaddress import IPv4Address, ip_network

import dpkt
import pytest

from balancing import Wired, frame_of, no_offload, packet, raw_socket
from elsewhere import needs_tcx
from netkit_bpf import Backend, BalancerStats, Firewall, LoadBalancer, Monitor, NetNS
from service import HOSTS, PORT, Service, service
from traffic import End
from veth import veth_pair

pytestmark = needs_tcx

SHORT = 0.3  # to wait for a reply that must not come
QUIET = BalancerStats(0, 0, 0, 0, 0, 0)


def test_connections_and_datagrams_reach_a_backend_and_come_back(wired: Wired) -> None:
    made = wired.service
    with wired.balancer() as tcp, wired.balancer("udp") as udp:
        answers = Counter(made.ask(port) for port in range(20_000, 20_050))
        assert set(answers) == {"b1", "b2", "b3"}
        assert [each.connections for each in tcp.backends] == [answers[f"b{n}"] for n in (1, 2, 3)]
        with made.connect() as large:
            large.recv(2)
            assert sum(each.open for each in tcp.backends) == 1
            exchange(large, bytes(3_000_000))
            assert sum(each.bytes for each in tcp.backends) > 3_000_000
            assert sum(each.reply_bytes for each in tcp.backends) > 3_000_000
        with made.client.socket(socket.SOCK_DGRAM) as out:
            assert len({made.ask_datagram(out, size) for size in (2, 3, 100, 1000)}) == 1
        assert sum(each.reply_packets for each in udp.backends) == 4
        assert (tcp.stats, udp.stats) == (QUIET, QUIET)


@pytest.mark.parametrize("completed_by", ["the sender's stack", "the host"])
def test_checksums_stay_right(wired: Wired, completed_by: str) -> None:
    """No device leaves them open to the end, so that the receiving stack verifies them.

    The sender's stack completes them before they are translated, the host after that.
    """
    made = wired.service
    for pair in (made.pair, *made.backends):
        no_offload(pair.peer if completed_by == "the sender's stack" else pair.primary)
    with wired.balancer() as tcp, wired.balancer("udp"):
        assert {made.ask() for _ in range(20)} == {"b1", "b2", "b3"}
        with made.connect() as large:
            large.recv(2)
            exchange(large, bytes(range(256)) * 100)
        for size in (2, 3, 999):
            with made.client.socket(socket.SOCK_DGRAM) as out:
                made.ask_datagram(out, size)
        assert tcp.stats == QUIET


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("completed_by", ["nobody", "the sender's stack", "the host"])
def test_a_backend_may_have_another_port(version: int, completed_by: str) -> None:
    with service(version, 1) as made, made.ends[0].socket(socket.SOCK_DGRAM) as datagrams:
        for pair in (made.pair, made.backends[0]):
            if completed_by != "nobody":
                no_offload(pair.peer if completed_by == "the sender's stack" else pair.primary)
        datagrams.bind(made.ends[0].name(5353))
        backend = Backend(made.backends[0], made.ends[0].address, 5353)
        with LoadBalancer(made.pair, made.vip, PORT, protocol="udp", backends=[backend]) as balancer:
            with made.client.socket(socket.SOCK_DGRAM) as out:
                out.connect((made.vip, PORT))
                out.send(b"there")
                data, sender = datagrams.recvfrom(64)
                datagrams.sendto(data + b" and back", sender)
                assert out.recv(64) == b"there and back"
            assert balancer.backends[0].backend == backend._replace(address=made.ends[0].ip)


def test_another_process_sends_connections_to_the_same_backends(made: Service) -> None:
    """The Maglev table and the hash are the same everywhere, in whichever order backends come."""
    with LoadBalancer(made.pair, made.vip, PORT, protocol="udp", backends=made.backends):
        before = destinations(made, range(500))
    with LoadBalancer(made.pair, made.vip, PORT, protocol="udp") as balancer:
        for backend in reversed(made.backends):
            balancer.add(backend)
        assert destinations(made, range(500)) == before


@pytest.mark.parametrize("flags", [dpkt.tcp.TH_SYN, dpkt.tcp.TH_ACK])
def test_a_flood_of_connections_that_are_never_made_evicts_none_that_is(wired: Wired, flags: int) -> None:
    """No backend answers the flood, not even with a RST."""
    made = wired.service
    flood = ip_network("10.0.8.0/21" if made.version == 4 else "fd00:8::/64")
    with (
        LoadBalancer(made.pair, made.vip, PORT, mode=wired.way, backends=made.backends, connections=64) as balancer,
        ExitStack() as undo,
    ):
        for backend in made.backends:
            undo.enter_context(Firewall(backend, f"drop primary from {flood}", sides=["primary"]))
        connections = [undo.enter_context(made.connect()) for _ in range(20)]
        for each in connections:
            each.recv(2)
            each.sendall(b"?")
            assert each.recv(1) == b"?"
        with raw_socket(made.pair.peer) as raw:
            for number in range(2000):
                first = dpkt.tcp.TCP(sport=1024, dport=PORT, flags=flags)
                raw.send(frame_of(made.pair, packet(str(flood[number + 1]), made.vip, first)))
        assert sum(backend.connections for backend in balancer.backends) == 2020
        assert balancer.stats == QUIET
        for each in connections:
            each.sendall(b"!")
            assert each.recv(1) == b"!"


def test_packets_of_other_services_go_their_way(made: Service) -> None:
    with LoadBalancer(made.pair, made.vip, PORT, backends=made.backends), Monitor(made.pair, sides=["peer"]) as monitor:
        with made.client.socket(socket.SOCK_DGRAM) as out:
            out.sendto(b"x", (made.vip, PORT))  # of another protocol
            out.sendto(b"x", (made.vip, PORT + 1))
        seen = [event for event in monitor.events(timeout=SHORT) if str(event.dst) == made.vip]
        assert len(seen) == 2


def test_a_client_reaches_a_backend_directly_too(made: Service) -> None:
    with LoadBalancer(made.pair, made.vip, PORT, backends=made.backends):
        made.ask()
        made.pair.primary.netns.call(_forward)
        with made.client.socket(socket.SOCK_STREAM) as direct:
            made.pair.peer.add_route("10.0.0.0/8", via="10.0.0.1")
            direct.connect((made.ends[0].address, PORT))
            assert direct.recv(2) == b"b1"


def test_balancers_of_two_pairs_of_clients_share_a_backend(wired: Wired) -> None:
    made = wired.service
    near, far = ("10.0.200.1", "10.0.200.2") if made.version == 4 else ("fd00:200::1", "fd00:200::2")
    size = 24 if made.version == 4 else 64
    with NetNS.create() as there, veth_pair(made.pair.primary.netns, there, "other") as pair:
        pair.primary.add_address(f"{near}/{size}")
        pair.peer.add_address(f"{far}/{size}")
        pair.peer.add_route(HOSTS[made.version], via=near)
        others = Service(made.version, pair, End(there, far), made.backends, made.ends)
        with wired.balancer() as older, LoadBalancer(pair, made.vip, PORT, mode=wired.way, backends=made.backends):
            assert {made.ask() for _ in range(20)} == {others.ask() for _ in range(20)} == {"b1", "b2", "b3"}
            assert sum(each.connections for each in older.backends) == 20


@pytest.mark.parametrize("version", [4, 6])
def test_the_host_reaches_the_virtual_address_of_a_backend_too(version: int) -> None:
    """Such as to see whether it lives. Replies and errors are the host's, not the clients'."""
    with (
        service(version, 1, dsr=True) as made,
        LoadBalancer(made.pair, made.vip, PORT, mode="dsr", backends=made.backends) as tcp,
        LoadBalancer(made.pair, made.vip, 81, protocol="udp", mode="dsr", backends=made.backends) as udp,
    ):
        primary = made.backends[0].primary
        primary.add_route(HOSTS[version], via=made.ends[0].address)
        there = Service(version, made.pair, End(primary.netns, made.vip))
        assert there.ask() == "b1"
        with there.client.socket(socket.SOCK_DGRAM) as refused:
            refused.connect((made.vip, 81))
            refused.send(b"is anybody there")
            with pytest.raises(ConnectionRefusedError):
                refused.recv(64)
        assert made.ask() == "b1"
        assert (tcp.stats, udp.stats) == (QUIET, QUIET)


def test_a_full_table_forgets_the_connection_that_was_silent_longest(made: Service) -> None:
    with LoadBalancer(made.pair, made.vip, PORT, protocol="udp", backends=made.backends, connections=16) as balancer:
        sockets = [made.client.socket(socket.SOCK_DGRAM) for _ in range(64)]
        try:
            first = [made.ask_datagram(each) for each in sockets]
            assert balancer.stats.evicted >= 64 - 16
            assert sum(each.open for each in balancer.backends) == 16
            assert [made.ask_datagram(each) for each in sockets] == first
        finally:
            for each in sockets:
                each.close()


def exchange(made: socket.socket, data: bytes) -> None:
    """Send it all and get it all back."""
    sender = threading.Thread(target=made.sendall, args=(data,))
    sender.start()
    received = bytearray()
    while len(received) < len(data):
        received += made.recv(1 << 20)
    sender.join()
    assert received == data


def destinations(made: Service, flows: range) -> dict[int, str]:
    """To which backend's primary the first packet of each flow goes: 100 clients with as many ports as it takes."""
    found: dict[int, str] = {}
    with Monitor(*made.backends, sides=["primary"], filter=f"udp dst port {PORT}") as monitor:
        with raw_socket(made.pair.peer) as raw:
            for flow in flows:
                first = dpkt.udp.UDP(sport=1024 + flow // 100, dport=PORT, data=b"x", ulen=9)
                raw.send(frame_of(made.pair, packet(f"10.0.0.{100 + flow % 100}", made.vip, first)))
        for event in monitor.events(timeout=5.0, count=len(flows)):
            assert event.src_port is not None
            client = int(event.src or 0) - int(IPv4Address("10.0.0.100"))
            found[(event.src_port - 1024) * 100 + client] = event.pair_name
    assert len(found) == len(flows)
    return found


def _forward() -> None:
    with open("/proc/sys/net/ipv4/ip_forward", "w") as file:
        file.write("1")
