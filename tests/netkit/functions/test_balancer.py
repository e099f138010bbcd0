# SPDX-License-Identifier: MIT
"""The load balancer on netkit pairs: real connections there and back."""

from __future__ import annotations

import ast
import contextlib
import socket
import time
from collections import Counter
from typing import Literal

import pytest

from examples import example
from netkit_bpf import Backend, LoadBalancer
from pairs import makes
from service import PORT, service, wait_for_open
from traffic import TIMEOUT, End, ping

Way = Literal["nat", "dsr"]
SOME = 20
SHORT = 0.3  # to wait for a reply that must not come
LARGE = 300_000


@pytest.mark.parametrize("way", ["nat", "dsr"])
@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("mode", ["l2", "l3"])
def test_connections_and_datagrams_reach_a_backend_and_come_back(mode: str, version: int, way: Way) -> None:
    with (
        service(version, 2, makes(mode), dsr=way == "dsr") as made,
        LoadBalancer(made.pair, made.vip, PORT, mode=way, backends=made.backends) as tcp,
        LoadBalancer(made.pair, made.vip, PORT, mode=way, backends=made.backends, protocol="udp") as udp,
    ):
        answers = Counter(made.ask(port) for port in range(20_000, 20_000 + SOME))
        assert set(answers) == {"b1", "b2"}
        assert [each.connections for each in tcp.backends] == [answers["b1"], answers["b2"]]
        with made.connect() as large:
            large.recv(2)
            large.sendall(bytes(LARGE))
            received = 0
            while received < LARGE:
                received += len(large.recv(65536))
        with made.client.socket(socket.SOCK_DGRAM) as out:
            assert len({made.ask_datagram(out, size) for size in (2, 100, 1000)}) == 1
        assert sum(each.reply_packets for each in udp.backends) == 3


@pytest.mark.parametrize("way", ["nat", "dsr"])
def test_no_connection_breaks_as_backends_come_and_go(way: Way) -> None:
    with (
        service(6, 3, makes("l3"), dsr=way == "dsr") as made,
        LoadBalancer(made.pair, made.vip, PORT, mode=way, backends=made.backends[:2]) as balancer,
        contextlib.ExitStack() as undo,
    ):
        connections = [undo.enter_context(made.connect()) for _ in range(SOME)]
        names = [each.recv(2).decode() for each in connections]
        assert set(names) == {"b1", "b2"}

        def all_answer() -> bool:
            for each in connections:
                each.sendall(b"?")
            return all(each.recv(1) == b"?" for each in connections)

        balancer.add(made.backends[2], 5)
        assert all_answer()
        balancer.drain(made.backends[0])
        assert all_answer()
        balancer.remove(made.backends[1])
        assert all_answer()
        assert {made.ask() for _ in range(SOME)} == {"b3"}
        counts = (names.count("b1"), names.count("b2"), 0)
        wait_for_open(balancer, {pair.primary.name: count for pair, count in zip(made.backends, counts, strict=True)})


def test_an_icmp_error_comes_from_the_virtual_address() -> None:
    with service(6, 1, makes("l3")) as made:
        backend = Backend(made.backends[0], None, 81)  # where nobody listens
        with LoadBalancer(made.pair, made.vip, PORT, protocol="udp", backends=[backend]) as balancer:
            with made.client.socket(socket.SOCK_DGRAM) as out:
                out.connect((made.vip, PORT))
                out.send(b"is anybody there")
                with pytest.raises(ConnectionRefusedError):
                    out.recv(64)
            assert balancer.stats.icmp_errors == 1


def test_on_a_blackhole_only_the_service_passes() -> None:
    with service(4, 1, makes("l3")) as made:
        for pair in (made.pair, made.backends[0]):
            pair.set_policy("blackhole", side="peer")
        with LoadBalancer(made.pair, made.vip, PORT, backends=made.backends):
            assert made.ask() == "b1"
            host = End(made.pair.primary.netns, "10.0.0.1")
            assert ping(made.client, host, [56], timeout=SHORT) == 0
            assert ping(made.ends[0], End(host.netns, "10.0.1.1"), [56], timeout=SHORT) == 0
            for pair in (made.pair, made.backends[0]):
                pair.set_policy("forward", side="peer")
            for end, other in ((made.client, "10.0.0.1"), (made.ends[0], "10.0.1.1")):  # the balancer hears of it
                deadline = time.monotonic() + TIMEOUT
                while ping(end, End(host.netns, other), [56], timeout=SHORT) == 0:
                    assert time.monotonic() < deadline


def test_the_example_shares_connections_by_weight(capsys: pytest.CaptureFixture[str]) -> None:
    example("service_of_five").main()
    first, second, *backends = capsys.readouterr().out.splitlines()
    assert sum(ast.literal_eval(first).values()) == 60
    assert set(ast.literal_eval(second)) <= {"web1", "web2", "web3", "web4"}
    assert [line.split()[:2] for line in backends] == [
        *([f"web{number}", "active"] for number in range(1, 5)),
        ["web5", "draining"],
    ]
