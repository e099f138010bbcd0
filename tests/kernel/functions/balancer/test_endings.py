# SPDX-License-Identifier: MIT
"""The ends of connections: their last packets, and those that the table has no place for any more."""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack

import dpkt

from balancing import Wired, frame_of, packet, raw_socket
from elsewhere import needs_tcx
from netkit_bpf import Backend, BalancerStats, LoadBalancer, Monitor, NetkitPair
from service import PORT, Service

pytestmark = needs_tcx

SHORT = 0.3  # for all that is on its way to come
QUIET = BalancerStats(0, 0, 0, 0, 0, 0)
CLIENT, NOBODY = "10.0.0.99", "10.0.1.99"  # addresses that no stack has, which would answer itself
SYN, ACK, FIN = dpkt.tcp.TH_SYN, dpkt.tcp.TH_ACK, dpkt.tcp.TH_FIN


def segment(src: str, sport: int, dst: str, dport: int, flags: int) -> bytes:
    return packet(src, dst, dpkt.tcp.TCP(sport=sport, dport=dport, flags=flags))


class Dialogue:
    """What both ends of a connection send, frame by frame."""

    def __init__(self, made: Service, backend: NetkitPair, undo: ExitStack) -> None:
        self._made, self._backend = made, backend
        self._near = undo.enter_context(raw_socket(made.pair.peer))
        self._far = undo.enter_context(raw_socket(backend.peer))

    def client(self, flags: int) -> None:
        self._near.send(frame_of(self._made.pair, segment(CLIENT, 4000, self._made.vip, PORT, flags)))

    def server(self, flags: int) -> None:
        self._far.send(frame_of(self._backend, segment(NOBODY, PORT, CLIENT, 4000, flags)))


def test_the_last_packets_of_a_connection_still_reach_a_backend_that_is_removed(made: Service) -> None:
    backend = Backend(made.backends[0], NOBODY)
    with ExitStack() as undo, LoadBalancer(made.pair, made.vip, PORT, backends=[backend]) as balancer:
        say = Dialogue(made, backend.pair, undo)
        say.client(SYN)
        say.server(SYN | ACK)
        say.client(ACK)
        say.client(FIN | ACK)
        say.server(FIN | ACK)
        balancer.add(made.backends[1])
        balancer.remove(backend)
        assert [(each.name, each.state, each.open) for each in balancer.backends] == [
            ("b10", "removed", 0),
            ("b20", "active", 0),
        ]
        with Monitor(backend.pair, sides=["primary"], filter=f"dst host {NOBODY}") as monitor:
            say.client(ACK)
            assert len(list(monitor.events(timeout=SHORT))) == 1
        end = time.monotonic() + 10
        while [each.name for each in balancer.backends] != ["b20"]:
            assert time.monotonic() < end
            time.sleep(0.05)
        assert backend.pair.programs("peer").programs == ()
        assert balancer.stats == QUIET
        say.client(ACK)  # and what comes later still goes to nobody
        assert balancer.stats == QUIET._replace(no_backend=1)
        say.client(SYN)
        assert [each.connections for each in balancer.backends] == [1]
        assert balancer.stats == QUIET._replace(no_backend=1)


def test_replies_of_evicted_connections_come_from_the_virtual_address_too(wired: Wired) -> None:
    made = wired.service
    with ExitStack() as undo:
        clients = [undo.enter_context(made.client.socket(socket.SOCK_DGRAM)) for _ in range(64)]
        with LoadBalancer(
            made.pair, made.vip, PORT, protocol="udp", mode=wired.way, backends=made.backends, connections=16
        ) as balancer:
            names = [made.ask_datagram(each) for each in clients]
            assert balancer.stats.evicted >= 64 - 16
            for backend, end in zip(("b1", "b2", "b3"), made.ends, strict=True):
                server = undo.enter_context(end.socket(socket.SOCK_DGRAM))
                server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                server.bind((made.vip if wired.way == "dsr" else end.address, PORT))
                for client, name in zip(clients, names, strict=True):
                    if name == backend:
                        server.sendto(b"later", made.client.name(client.getsockname()[1]))
                        data, sender = client.recvfrom(16)
                        assert (data, sender[:2]) == (b"later", (made.vip, PORT))
            assert sum(each.reply_packets for each in balancer.backends) == 2 * len(clients)
