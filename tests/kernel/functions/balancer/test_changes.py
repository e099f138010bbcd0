# SPDX-License-Identifier: MIT
"""Backends that come and go under traffic, and the balancer's own end."""

from __future__ import annotations

import errno
import gc
import os
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import numpy
import pytest

from balancing import Wired
from elsewhere import needs_tcx
from forked import Forked
from in_child import in_child
from netkit_bpf import Backend, BalancerStats, BPFObject, Firewall, FlowMetrics, LoadBalancer, Monitor, NetNS
from netkit_bpf.functions import balancer_programs
from programs import MANY, load
from service import PORT, VIPS, Open, Service, service, wait_for_open
from veth import veth_pair

pytestmark = needs_tcx

SHORT = 0.3  # to wait for a reply that must not come
QUIET = BalancerStats(0, 0, 0, 0, 0, 0)


@pytest.fixture(params=["nat", "dsr"])
def wired(request: pytest.FixtureRequest) -> Iterator[Wired]:
    with service(4, 5, dsr=request.param == "dsr") as made:
        yield Wired(made, request.param)


def test_no_connection_breaks_as_backends_come_and_go(wired: Wired) -> None:
    made = wired.service
    with (
        ExitStack() as undo,
        LoadBalancer(made.pair, made.vip, PORT, mode=wired.way, backends=made.backends[:4]) as balancer,
    ):
        connections = Open(made, 60, undo)
        assert set(connections.names) == {"b1", "b2", "b3", "b4"}
        balancer.add(made.backends[4], 3)
        assert connections.all_answer()
        balancer.drain(made.backends[0])
        assert connections.all_answer()
        balancer.remove(made.backends[1])
        assert connections.all_answer()
        new = Counter(made.ask() for _ in range(60))
        assert set(new) == {"b3", "b4", "b5"}
        states = {each.name: each.state for each in balancer.backends}
        assert states == {"b10": "draining", "b20": "removed", "b30": "active", "b40": "active", "b50": "active"}
        wait_for_open(balancer, {f"b{number}0": connections.names.count(f"b{number}") for number in range(1, 6)})
        balancer.add(made.backends[0])
        balancer.add(made.backends[1], 2)
        assert connections.all_answer()
        assert {made.ask() for _ in range(80)} == {"b1", "b2", "b3", "b4", "b5"}
        assert balancer.stats == QUIET


def test_a_removed_backend_is_let_go_of_when_its_last_connection_is_over(wired: Wired) -> None:
    made = wired.service
    gone = made.backends[0]
    with LoadBalancer(made.pair, made.vip, PORT, mode=wired.way, backends=[gone]) as balancer:
        with made.connect() as only:
            assert only.recv(2) == b"b1"
            balancer.add(made.backends[1])
            balancer.remove(gone)
            assert [each.state for each in balancer.backends] == ["removed", "active"]
            assert len(gone.programs("peer").programs) == 1
            assert made.ask() == "b2"
            only.shutdown(socket.SHUT_WR)
            assert only.recv(1) == b""
        wait_until_over(balancer)
        assert gone.programs("peer").programs == ()
        balancer.add(gone)
        balancer.remove(gone)  # without connections that is at once
        assert gone.programs("peer").programs == ()
        with pytest.raises(LookupError, match="is no backend"):
            balancer.remove(gone)


def test_a_backend_that_is_cut_off_loses_its_connections_to_others(made: Service) -> None:
    with LoadBalancer(made.pair, made.vip, PORT, backends=made.backends[:1]) as balancer, made.connect() as cut:
        cut.recv(2)
        balancer.add(made.backends[1])
        balancer.remove(made.backends[0], at_once=True)
        assert made.backends[0].programs("peer").programs == ()
        cut.sendall(b"?")
        with pytest.raises(ConnectionResetError):  # by one that does not know it
            cut.recv(1)
        assert balancer.stats == QUIET._replace(moved=1)
        assert [each.backend.pair for each in balancer.backends] == [made.backends[1]]


def test_the_place_of_a_backend_that_was_cut_off_is_not_taken_for_it(made: Service) -> None:
    with made.client.socket(socket.SOCK_DGRAM) as out:
        with LoadBalancer(made.pair, made.vip, PORT, protocol="udp", backends=made.backends[:2]) as balancer:
            name = made.ask_datagram(out)
            old = made.backends[int(name[1]) - 1]
            balancer.remove(old, at_once=True)
            balancer.add(made.backends[2])
            assert made.ask_datagram(out) != name
            assert balancer.stats.moved == 1


def test_datagrams_stay_with_a_draining_backend_and_new_ones_do_not(made: Service) -> None:
    with LoadBalancer(made.pair, made.vip, PORT, protocol="udp", backends=made.backends) as balancer:
        with made.client.socket(socket.SOCK_DGRAM) as out, ExitStack() as undo:
            name = made.ask_datagram(out)
            balancer.drain(made.backends[int(name[1]) - 1])
            assert made.ask_datagram(out) == name
            others = [undo.enter_context(made.client.socket(socket.SOCK_DGRAM)) for _ in range(30)]
            assert name not in {made.ask_datagram(each) for each in others}


@pytest.mark.parametrize("change", ["drain", "remove"])
def test_datagrams_that_nobody_answers_stay_too(made: Service, change: str) -> None:
    with (
        LoadBalancer(made.pair, made.vip, 9999, protocol="udp", backends=made.backends) as balancer,
        ExitStack() as undo,
        made.client.socket(socket.SOCK_DGRAM) as out,
    ):
        for end in made.ends:
            undo.enter_context(end.socket(socket.SOCK_DGRAM)).bind(end.name(9999))
        out.sendto(b"x", (made.vip, 9999))
        (used,) = (each for each in balancer.backends if each.packets)
        getattr(balancer, change)(used.backend)
        for _ in range(10):
            out.sendto(b"x", (made.vip, 9999))
        assert {each.name: each.packets for each in balancer.backends if each.packets} == {used.name: 11}


def test_without_backends_packets_are_dropped_and_counted(wired: Wired) -> None:
    made = wired.service
    with LoadBalancer(made.pair, made.vip, PORT, mode=wired.way) as balancer:
        assert not connects(made)
        assert balancer.stats.no_backend >= 1
        balancer.add(made.backends[0])
        assert made.ask() == "b1"
        balancer.drain(made.backends[0])
        dropped = balancer.stats.no_backend
        assert not connects(made)
        assert balancer.stats.no_backend > dropped


def test_adding_what_fails_in_the_middle_changes_nothing(made: Service) -> None:
    with LoadBalancer(made.pair, made.vip, PORT, backends=made.backends[:1]) as balancer, ExitStack() as undo:
        many = undo.enter_context(load(MANY))
        for number in range(63):
            undo.enter_context(made.backends[1].attach(many.programs[f"many{number}"], "peer"))
        before = balancer.backends, balancer.table
        with pytest.raises(OSError, match="63"):
            balancer.add(made.backends[1])
        assert (balancer.backends, balancer.table) == before
        with pytest.raises(OSError, match="63"):
            LoadBalancer(made.pair, made.vip, PORT + 1, backends=[made.backends[2], made.backends[1]])
        assert made.backends[2].programs("peer").programs == ()
        assert len(made.pair.programs("peer").programs) == 1
        made.backends[2].delete()
        with pytest.raises(OSError, match=made.backends[2].primary._known_name):
            balancer.add(Backend(made.backends[2], "10.0.3.2"))
        assert (balancer.backends, balancer.table) == before
        assert made.ask() == "b1"


def test_a_change_that_cannot_be_published_changes_nothing(made: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(obj: BPFObject, places: bytes) -> None:
        raise OSError(errno.ENOMEM, "no memory")

    with LoadBalancer(made.pair, made.vip, PORT, backends=made.backends) as balancer:
        assert balancer._object is not None
        known = balancer._object.maps["backends"]
        before = balancer.backends, balancer.table, list(known.values())
        with monkeypatch.context() as failing:
            failing.setattr("netkit_bpf.functions.members.publish", fail)
            for change in (balancer.drain, balancer.remove):
                with pytest.raises(OSError, match="no memory"):
                    change(made.backends[0])
                assert (balancer.backends, balancer.table, list(known.values())) == before
        balancer.drain(made.backends[0])
        assert list(known.values()) != before[2]


def test_two_balancers_share_a_pair_and_its_backends(made: Service) -> None:
    other = "192.0.2.81"
    made.pair.peer.add_route(f"{other}/32", via="10.0.0.1")
    with (
        LoadBalancer(made.pair, made.vip, PORT, backends=made.backends[:2]) as first,
        LoadBalancer(
            made.pair, other, 8080, backends=[Backend(each, None, PORT) for each in made.backends[1:]]
        ) as second,
    ):
        with made.client.socket(socket.SOCK_STREAM) as out:
            out.connect((other, 8080))
            assert out.recv(2) in (b"b2", b"b3")
        assert made.ask() in ("b1", "b2")
        assert sum(each.connections for each in first.backends) == 1
        assert sum(each.connections for each in second.backends) == 1


def test_one_that_ends_while_another_one_looks_for_its_place_does_no_harm(
    made: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = balancer_programs._balancers
    with LoadBalancer(made.pair, made.vip, PORT, backends=made.backends[:1]):
        found = [find(made.pair.hook("peer"))]
    monkeypatch.setattr(balancer_programs, "_balancers", lambda hook: found.pop() if found else find(hook))
    with LoadBalancer(made.pair, made.vip, PORT, backends=made.backends[:1]):
        assert not found
        assert made.ask() == "b1"


def test_a_monitor_and_a_firewall_are_in_front_whichever_came_first(made: Service) -> None:
    with (
        LoadBalancer(made.pair, made.vip, PORT, backends=made.backends[:1]) as balancer,
        Monitor(made.pair, sides=["peer"], filter=f"tcp dst port {PORT}") as monitor,
        Firewall(made.pair, "drop peer tcp from any port 4000", sides=["peer"]),
    ):
        assert made.ask() == "b1"
        assert not connects(made, 4000)
        seen = list(monitor.events(timeout=SHORT))
        assert len(seen) == balancer.backends[0].packets
        assert {str(event.dst) for event in seen} == {made.vip}


def test_close_takes_everything_off_and_keeps_the_counts(made: Service) -> None:
    balancer = LoadBalancer(made.pair, made.vip, PORT, backends=made.backends)
    assert repr(balancer) == "<LoadBalancer tcp 192.0.2.80:80 (nat) 3 backends>"
    with balancer:
        made.ask()
        assert not balancer.closed
    balancer.close()
    assert balancer.closed
    assert sum(each.connections for each in balancer.backends) == 1
    assert balancer.stats == QUIET
    assert repr(balancer) == "<LoadBalancer tcp 192.0.2.80:80 (nat) closed>"
    for pair in (made.pair, *made.backends):
        assert pair.programs("peer").programs == ()
    for call in (balancer.check, lambda: balancer.add(made.backends[0])):
        with pytest.raises(ValueError, match="the load balancer is closed"):
            call()
    with pytest.raises(ValueError, match="closed>: it is closed"), balancer:
        pass


def test_a_pair_that_is_gone_does_not_keep_it_from_closing(made: Service) -> None:
    balancer = LoadBalancer(made.pair, made.vip, PORT, backends=made.backends)
    made.backends[0].delete()
    made.pair.delete()
    balancer.close()
    assert made.backends[1].programs("peer").programs == ()


def test_a_process_that_is_killed_leaves_nothing_attached(made: Service) -> None:
    with Forked(lambda: LoadBalancer(made.pair, made.vip, PORT, backends=made.backends)):
        assert made.ask() in ("b1", "b2", "b3")
    for pair in (made.pair, *made.backends):
        assert pair.programs("peer").programs == ()


def test_a_forked_child_that_closes_it_detaches_nothing(made: Service) -> None:
    with LoadBalancer(made.pair, made.vip, PORT, backends=made.backends) as balancer:

        def close() -> str:
            balancer.close()
            return str(balancer.closed)

        assert in_child(close) == "True"
        assert made.ask() in ("b1", "b2", "b3")


def test_who_forgets_to_close_it_is_told(made: Service) -> None:
    def forget() -> None:
        LoadBalancer(made.pair, made.vip, PORT, backends=made.backends)
        gc.collect()

    with pytest.warns(ResourceWarning, match="LoadBalancer of tcp 192.0.2.80:80, made at .*test_changes.py:") as caught:
        forget()
    assert len(caught) == 1
    assert made.pair.programs("peer").programs == ()


def test_what_cannot_be_is_refused_before_anything_is_touched(made: Service) -> None:
    pair, backends = made.pair, made.backends
    with NetNS.create() as elsewhere, NetNS.create() as there, veth_pair(elsewhere, there, "far") as far:
        far.peer.add_address("10.9.0.2/24")
        for error, text, arguments, options in [
            (TypeError, "pair must be a NetkitPair, not str", ("nk0", made.vip, PORT), {}),
            (ValueError, "vip must be an address", (pair, "here", PORT), {}),
            (ValueError, "vip must be an address to which", (pair, "224.0.0.1", PORT), {}),
            (ValueError, "vip must be an address to which", (pair, "fe80::1", PORT), {}),
            (ValueError, "say 192.0.2.1, not", (pair, "::ffff:192.0.2.1", PORT), {}),
            (ValueError, "vip must have no scope", (pair, "fd00::1%lo", PORT), {}),
            (ValueError, "port must be 1 to 65535, not 0", (pair, made.vip, 0), {}),
            (ValueError, "protocol must be 'tcp' or 'udp'", (pair, made.vip, PORT), {"protocol": "sctp"}),
            (ValueError, "mode must be 'nat' or 'dsr'", (pair, made.vip, PORT), {"mode": "tunnel"}),
            (ValueError, "connections must be 16", (pair, made.vip, PORT), {"connections": 1}),
            (TypeError, "backend must be a Backend", (pair, made.vip, PORT), {"backends": ["b1"]}),
            (ValueError, "weight must be 1", (pair, made.vip, PORT), {"backends": {backends[0]: 0}}),
            (ValueError, "backends has b10 twice", (pair, made.vip, PORT), {"backends": [backends[0]] * 2}),
            (ValueError, "the clients' own pair", (pair, made.vip, PORT), {"backends": [pair]}),
            (ValueError, "two network namespaces", (pair, made.vip, PORT), {"backends": [far]}),
            (ValueError, "b11 has no address of IPv6", (pair, VIPS[6], PORT), {"backends": backends}),
            (ValueError, "must be of IPv4", (pair, made.vip, PORT), {"backends": [Backend(backends[0], "fd00::1")]}),
            (ValueError, "backend.port must be", (pair, made.vip, PORT), {"backends": [Backend(backends[0], None, 0)]}),
            (ValueError, "own address and port", (pair, made.vip, PORT),
             {"backends": [Backend(backends[0], "10.0.1.2")], "mode": "dsr"}),
        ]:  # fmt: skip
            with pytest.raises(error, match=text):
                LoadBalancer(*arguments, **options)  # type: ignore[arg-type]
    with pytest.warns(UserWarning, match="is an address of neither lo nor b11"):
        LoadBalancer(pair, made.vip, PORT, mode="dsr", backends=backends[:1]).close()
    backends[0].peer.add_address("10.7.7.7/24")
    with pytest.raises(ValueError, match="b11 has 2 addresses of IPv4"):
        LoadBalancer(pair, made.vip, PORT, backends=backends)
    with LoadBalancer(pair, made.vip, PORT, backends=[Backend(backends[0], "10.0.1.2")]) as balancer:
        with pytest.raises(ValueError, match="b10 is a backend already"):
            balancer.add(Backend(backends[0], "10.0.1.2"))
        with pytest.raises(LookupError, match="is no backend"):
            balancer.drain(backends[1])
    for each in (pair, *backends):
        assert each.programs("peer").programs == ()


def connects(made: Service, port: int = 0) -> bool:
    with made.client.socket(socket.SOCK_STREAM) as out:
        out.settimeout(SHORT)
        out.bind(made.client.name(port))
        try:
            out.connect((made.vip, PORT))
        except TimeoutError:
            return False
        return True


def wait_until_over(balancer: LoadBalancer) -> None:
    """The last packets of a connection are on their way still."""
    while any(each.state == "removed" for each in balancer.backends):
        os.sched_yield()


def test_two_hundred_changes_under_traffic_break_no_connection(wired: Wired) -> None:
    made = wired.service
    ending = threading.Event()
    rounds = Counter[int]()

    def talk(number: int, connection: socket.socket) -> None:
        while not ending.is_set():
            connection.sendall(b"ping")
            assert connection.recv(4, socket.MSG_WAITALL) == b"ping"
            rounds[number] += 1

    with (
        LoadBalancer(made.pair, made.vip, PORT, mode=wired.way, backends=made.backends) as balancer,
        ExitStack() as undo,
        ThreadPoolExecutor(8) as pool,
    ):
        connections = Open(made, 8, undo).sockets
        talks = [pool.submit(talk, number, each) for number, each in enumerate(connections)]
        try:
            for number in range(100):
                backend = made.backends[number % 5]
                (balancer.remove if number % 2 else balancer.drain)(backend)
                balancer.add(backend, number % 7 + 1)
                made.ask()
        finally:
            ending.set()
        for each in talks:
            each.result()
        assert set(rounds) == set(range(8))
        assert balancer.stats == QUIET


def test_firewall_metrics_monitor_and_balancer_share_a_pair(made: Service) -> None:
    with (
        FlowMetrics(made.pair) as metrics,
        LoadBalancer(made.pair, made.vip, PORT, backends=made.backends) as balancer,
        Monitor(made.pair, sides=["peer"], filter=f"tcp dst port {PORT}") as monitor,
        Firewall(made.pair, "drop peer tcp from any port 4000\npass", sides=["peer"]) as firewall,
    ):
        for port in range(5000, 5010):
            made.ask(port)
        assert not connects(made, 4000)
        packets = sum(each.packets for each in balancer.backends)
        assert len(list(monitor.events(timeout=SHORT))) == packets
        counted = numpy.asarray(metrics.snapshot())
        assert counted["packets"][(counted["dst_port"] == PORT) & (counted["side"] == 1)].sum() == packets
        assert firewall.counters[firewall.rules[0]].packets >= 1
        assert sum(each.connections for each in balancer.backends) == 10
