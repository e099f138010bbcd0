# SPDX-License-Identifier: MIT
"""A service behind a virtual address: clients, and backends with a server each, all on pairs of one host."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from ipaddress import ip_interface

from netkit_bpf import Device, LoadBalancer, NetkitPair, NetNS
from traffic import TIMEOUT, End
from veth import veth_pair

PORT = 80
VIPS = {4: "192.0.2.80", 6: "fd00:80::80"}
HOSTS = {4: f"{VIPS[4]}/32", 6: f"{VIPS[6]}/128"}
CLIENTS = {4: ("10.0.0.1/24", "10.0.0.2/24"), 6: ("fd00::1/64", "fd00::2/64")}
BACKENDS = {4: ("10.0.{}.1/24", "10.0.{}.2/24"), 6: ("fd00:{}::1/64", "fd00:{}::2/64")}

MakePair = Callable[[NetNS, NetNS, str], AbstractContextManager[NetkitPair]]


@dataclass
class Service:
    """The clients' pair and those of the backends; each server says its name, and then what it is told."""

    version: int
    pair: NetkitPair
    client: End
    backends: list[NetkitPair] = field(default_factory=list)
    ends: list[End] = field(default_factory=list)

    @property
    def vip(self) -> str:
        return VIPS[self.version]

    def connect(self, port: int = 0) -> socket.socket:
        """A connection to the service, from that port or any."""
        made = self.client.socket(socket.SOCK_STREAM)
        try:
            if port:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                made.bind(self.client.name(port))
            made.connect((self.vip, PORT))
        except BaseException:
            made.close()
            raise
        return made

    def ask(self, port: int = 0) -> str:
        """Which backend answers a new connection."""
        with self.connect(port) as made:
            return made.recv(64).decode()

    def ask_datagram(self, made: socket.socket, size: int = 1) -> str:
        """Which backend answers a datagram; the reply has as many bytes, and comes from the virtual address."""
        made.sendto(bytes(size), (self.vip, PORT))
        data, sender = made.recvfrom(65535)
        assert sender[:2] == (self.vip, PORT)
        assert len(data) == max(size, 2)
        return data[:2].decode()


def name_of(number: int) -> str:
    """What the server of a backend says."""
    return f"b{number}"


@contextlib.contextmanager
def service(version: int, count: int, make_pair: MakePair = veth_pair, *, dsr: bool = False) -> Iterator[Service]:
    """Make namespaces, pairs, routes and servers."""
    with ExitStack() as undo:
        host, here = (undo.enter_context(NetNS.create()) for _ in range(2))
        pair = undo.enter_context(make_pair(host, here, "cl"))
        made = Service(version, pair, End(here, _configure(pair, CLIENTS[version])))
        pair.peer.add_route(HOSTS[version], via=CLIENTS[version][0].split("/")[0])
        for number in range(1, count + 1):
            there = undo.enter_context(NetNS.create())
            backend = undo.enter_context(make_pair(host, there, f"b{number}"))
            near, far = (text.format(number) for text in BACKENDS[version])
            address = _configure(backend, (near, far))
            backend.peer.add_route("0.0.0.0/0" if version == 4 else "::/0", via=near.split("/")[0])
            if dsr:
                lo = Device.open("lo", there)
                lo.up()
                lo.add_address(HOSTS[version])
            made.backends.append(backend)
            made.ends.append(End(there, address))
            undo.enter_context(_server(made.ends[-1], VIPS[version] if dsr else address, name_of(number)))
        yield made


def _configure(pair: NetkitPair, addresses: tuple[str, str]) -> str:
    pair.primary.add_address(addresses[0])
    pair.peer.add_address(addresses[1])
    return str(ip_interface(addresses[1]).ip)


@contextlib.contextmanager
def _server(end: End, address: str, name: str) -> Iterator[None]:
    with end.socket(socket.SOCK_STREAM) as listener, end.socket(socket.SOCK_DGRAM) as datagrams:
        for each in (listener, datagrams):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            each.bind((address, PORT))
            each.settimeout(None)
        listener.listen(1024)
        threads = [threading.Thread(target=serve) for serve in (
            lambda: _accept(listener, name), lambda: _answer(datagrams, name))]  # fmt: skip
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            for each in (listener, datagrams):  # wakes the threads
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join()


def _accept(listener: socket.socket, name: str) -> None:
    threads = []
    accepted: list[socket.socket] = []
    with contextlib.suppress(OSError):
        while True:
            accepted.append(listener.accept()[0])
            threads.append(threading.Thread(target=_echo, args=(accepted[-1], name)))
            threads[-1].start()
    for made in accepted:  # whose client may be gone without a word
        with contextlib.suppress(OSError):
            made.shutdown(socket.SHUT_RDWR)
    for thread in threads:
        thread.join()


def wait_for_open(balancer: LoadBalancer, expected: dict[str, int]) -> None:
    """Wait until each backend, by device, has so many connections: one that its client left may not be closed yet."""
    deadline = time.monotonic() + TIMEOUT
    while (found := {each.name: each.open for each in balancer.backends}) != expected:
        assert time.monotonic() < deadline, found
        time.sleep(0.01)


def _echo(made: socket.socket, name: str) -> None:
    made.settimeout(TIMEOUT)
    with made, contextlib.suppress(OSError):
        made.sendall(name.encode())
        while data := made.recv(65536):
            made.sendall(data)


def _answer(datagrams: socket.socket, name: str) -> None:
    with contextlib.suppress(OSError):
        while data := datagrams.recvfrom(65535):
            payload, sender = data
            if not sender:  # shut down
                return
            datagrams.sendto(name.encode() + payload[2:], sender)


class Open:
    """Connections that stay open, each with the name of its backend."""

    def __init__(self, made: Service, count: int, undo: ExitStack) -> None:
        self.sockets = [undo.enter_context(made.connect()) for _ in range(count)]
        self.names = [each.recv(2).decode() for each in self.sockets]

    def all_answer(self) -> bool:
        for each in self.sockets:
            each.sendall(b"?")
        return all(each.recv(1) == b"?" for each in self.sockets)
