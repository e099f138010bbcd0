# SPDX-License-Identifier: MIT
"""Ten thousand connections of real sockets over five weighted backends, which come and go meanwhile."""

from __future__ import annotations

import select
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Literal

import pytest

from elsewhere import needs_tcx
from netkit_bpf import BalancerStats, LoadBalancer, NetkitPair
from service import Service, service

pytestmark = needs_tcx

PORT = 8080
MANY = 10_000
LONG = 200
SOURCES = [f"10.0.0.{10 + number}" for number in range(10)]
PATIENCE = 10.0
QUIET = BalancerStats(0, 0, 0, 0, 0, 0)
Protocol = Literal["tcp", "udp"]


class Servers:
    """A socket of each backend, and both ends of what reaches them in this one thread: nothing waits for another."""

    def __init__(self, made: Service, protocol: Protocol, undo: ExitStack) -> None:
        self._made = made
        self._kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
        self._epoll = undo.enter_context(select.epoll())
        self._names: dict[int, tuple[str, socket.socket]] = {}
        for pair, end in zip(made.backends, made.ends, strict=True):
            server = undo.enter_context(end.socket(self._kind))
            server.bind((end.address, PORT))
            if protocol == "tcp":
                server.listen(1024)
            self._epoll.register(server, select.EPOLLIN)
            self._names[server.fileno()] = pair.primary.name, server

    @contextmanager
    def client(self, number: int) -> Iterator[socket.socket]:
        """A socket with an address and port of its own, the same each time."""
        with self._made.client.socket(self._kind) as made:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind((SOURCES[number % len(SOURCES)], 20_000 + number // len(SOURCES)))
            yield made

    def reached(self) -> tuple[str, socket.socket]:
        """The one backend that something has come to."""
        ((number, _),) = self._epoll.poll(PATIENCE)
        return self._names[number]

    def connect(self, client: socket.socket) -> tuple[str, socket.socket]:
        """Which backend a connection is made to, and its other end."""
        client.connect((self._made.vip, PORT))
        name, listener = self.reached()
        return name, listener.accept()[0]

    def ask(self, number: int) -> str:
        """Make a connection, or send a datagram; exchange something; end it. Returns which backend it was."""
        with self.client(number) as client:
            if self._kind == socket.SOCK_DGRAM:
                client.sendto(b"ping", (self._made.vip, PORT))
                name, server = self.reached()
                data, sender = server.recvfrom(16)
                server.sendto(data, sender)
                assert client.recvfrom(16) == (b"ping", (self._made.vip, PORT))
                return name
            name, accepted = self.connect(client)
            with accepted:
                assert is_alive(client, accepted)
            assert client.recv(1) == b""  # it was the server that closed: the client may take its port again at once
            return name


def is_alive(client: socket.socket, accepted: socket.socket) -> bool:
    """Whether bytes go there and back."""
    client.sendall(b"ping")
    accepted.sendall(accepted.recv(16))
    return client.recv(16) == b"ping"


@contextmanager
def served(protocol: Protocol) -> Iterator[tuple[Service, Servers, dict[NetkitPair, int], ExitStack]]:
    """Five backends with weights from one to five, and a client of many addresses."""
    with service(4, 5) as made, ExitStack() as undo:
        for source in SOURCES:
            made.pair.peer.add_address(f"{source}/24")
        weights = dict(zip(made.backends, range(1, 6), strict=True))
        yield made, Servers(made, protocol, undo), weights, undo


def ask_all(servers: Servers, balancer: LoadBalancer) -> list[str]:
    """Which backend takes which; each gets as many as its weight says."""
    found = [servers.ask(number) for number in range(MANY)]
    counts = Counter(found)
    for each in balancer.backends:
        assert counts[each.name] == each.connections == pytest.approx(MANY * each.weight / 15, rel=0.05)
    assert balancer.stats == QUIET
    return found


def test_datagrams_go_by_weight() -> None:
    with served("udp") as (made, servers, weights, _):
        with LoadBalancer(made.pair, made.vip, PORT, protocol="udp", backends=weights) as balancer:
            ask_all(servers, balancer)


def test_connections_go_by_weight_and_stay_as_backends_come_and_go() -> None:
    with (
        served("tcp") as (made, servers, weights, undo),
        LoadBalancer(made.pair, made.vip, PORT, backends=weights) as balancer,
    ):
        before = ask_all(servers, balancer)
        clients = [undo.enter_context(servers.client(MANY + number)) for number in range(LONG)]
        long = [(client, *servers.connect(client)) for client in clients]
        for _, _, accepted in long:
            undo.enter_context(accepted)
        held = Counter(name for _, name, _ in long)
        assert len(held) == 5

        def all_live() -> bool:
            return all(is_alive(client, accepted) for client, _, accepted in long)

        first, _, third, _, fifth = made.backends
        balancer.remove(third)
        assert all_live()
        after = [servers.ask(number) for number in range(MANY)]
        assert third.primary.name not in after
        others = [(old, new) for old, new in zip(before, after, strict=True) if old != third.primary.name]
        assert sum(old != new for old, new in others) <= len(others) / 100
        assert {each.name: each.open for each in balancer.backends} == held
        balancer.add(third, 3)
        assert all_live()
        balancer.drain(first)
        balancer.remove(fifth)
        assert all_live()
        balancer.add(first, 7)
        balancer.add(fifth, 1)
        assert all_live()
        assert balancer.stats == QUIET
