# SPDX-License-Identifier: MIT
"""A balancer that hears of its backends by itself: deletions, and what keeps it from following them."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Iterator, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import Any

import pytest

from elsewhere import needs_tcx
from in_child import in_child
from netkit_bpf import BPFObject, Device, LoadBalancer, NetkitPair, NetNS
from netkit_bpf.functions.balancer_programs import publish
from netkit_bpf.functions.following import link_socket
from netkit_bpf.functions.following.backend_follower import BackendFollower
from netkit_bpf.functions.following.link_socket import LinkNews, LinkSocket
from netkit_bpf.internal.process_lock import ProcessLock
from service import PORT, Open, Service
from traffic import TIMEOUT

pytestmark = needs_tcx


def test_a_backend_that_is_deleted_under_traffic_gets_nothing_new_and_its_connections_are_told(
    made: Service, caplog: pytest.LogCaptureFixture
) -> None:
    with LoadBalancer(made.pair, made.vip, PORT, backends=made.backends) as balancer, ExitStack() as undo:
        connections = Open(made, 30, undo)
        with balancer._lock:  # before anybody learns of it
            made.backends[0].delete()
            assert {made.ask() for _ in range(30)} == {"b2", "b3"}
        for each, name in zip(connections.sockets, connections.names, strict=True):
            if name != "b1":
                each.sendall(b"?")
                assert each.recv(1) == b"?"
                continue
            each.settimeout(TIMEOUT)
            with suppress(ConnectionResetError, BrokenPipeError):  # by others, who do not know them
                each.sendall(b"?")
                pytest.fail(f"{each.recv(1)!r} came over a connection that is lost")
        assert caplog.text == ""
        assert balancer.stats.no_backend == 0
        assert [each.name for each in balancer.backends] == ["b20", "b30"]
        with pytest.raises(LookupError, match="is no backend"):
            balancer.remove(made.backends[0])
        assert {made.ask() for _ in range(30)} == {"b2", "b3"}


@pytest.mark.parametrize("mover", ["its object", "another process"])
def test_a_backend_whose_primary_is_moved_away_is_let_go_of(
    made: Service, mover: str, caplog: pytest.LogCaptureFixture
) -> None:
    moved = made.backends[0]
    with (
        NetNS.create() as other,
        LoadBalancer(made.pair, made.vip, PORT, backends=made.backends) as balancer,
        ExitStack() as undo,
    ):
        connections = Open(made, 30, undo)
        if mover == "its object":
            moved.primary.move(other)
        else:
            move(moved.primary, other)
            moved = NetkitPair(Device.open("b10", other), moved.peer, owned=False)
        wait_for_backends(balancer, 2)
        assert moved.programs("peer").programs == ()
        for each, name in zip(connections.sockets, connections.names, strict=True):
            if name == "b1":
                each.sendall(b"?")
                with pytest.raises(ConnectionResetError):  # by others, who do not know it
                    each.recv(1)
        assert {made.ask() for _ in range(30)} == {"b2", "b3"}
        assert balancer.stats.moved == connections.names.count("b1")
        balancer.check()
        assert caplog.text == ""


def test_check_finds_what_was_not_heard_of_and_stops_at_no_backend(made: Service) -> None:
    """Such as a primary that left while its pair was being added."""
    with NetNS.create() as other, LoadBalancer(made.pair, made.vip, PORT, backends=made.backends) as balancer:
        balancer._follower.close()
        move(made.backends[0].primary, other)
        made.backends[1].delete()
        balancer.check()
        assert [each.name for each in balancer.backends] == ["b30"]
        made.pair.delete()
        made.backends[2].delete()
        with pytest.raises(OSError, match="cl0"):
            balancer.check()
        assert balancer.backends == ()


@pytest.mark.parametrize("whose", ["a backend", "the clients"])
def test_check_reads_the_mac_of_a_peer_again(made: Service, whose: str) -> None:
    backends = made.backends[:1]
    pair = made.pair if whose == "the clients" else backends[0]
    with LoadBalancer(made.pair, made.vip, PORT, backends=backends) as balancer:
        pair.peer.set(mac="02:00:00:00:00:99")
        balancer.check()
        assert made.ask() == "b1"


def test_the_mac_of_a_peer_is_read_again_for_a_backend_that_is_added_again(made: Service) -> None:
    backend = made.backends[0]
    with LoadBalancer(made.pair, made.vip, PORT, backends=[backend]) as balancer:
        balancer.drain(backend)
        backend.peer.set(mac="02:00:00:00:00:99")
        balancer.add(backend)
        assert made.ask() == "b1"


def test_the_macs_of_a_pair_are_read_again_when_its_primary_changes(made: Service) -> None:
    backend = made.backends[0]
    with LoadBalancer(made.pair, made.vip, PORT, backends=[backend]) as balancer:
        for end, mac in ((backend.peer, "02:00:00:00:00:98"), (backend.primary, "02:00:00:00:00:99")):
            end.set(mac=mac)
        deadline = time.monotonic() + TIMEOUT
        while balancer._members.get(backend).macs != (b"\2\0\0\0\0\x98", b"\2\0\0\0\0\x99"):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert made.ask() == "b1"


def test_a_peer_that_is_where_nobody_can_look_keeps_its_mac(made: Service) -> None:
    with NetNS.create() as other, LoadBalancer(made.pair, made.vip, PORT, backends=made.backends) as balancer:
        known = [each.macs for each in balancer._members]
        move(made.backends[0].peer, other)
        balancer.check()
        assert [each.macs for each in balancer._members] == known


def move(device: Device, netns: NetNS) -> None:
    """As another process does: the object does not follow."""
    with netns.popen(["sleep", "60"]) as holder:
        argv = ["ip", "link", "set", device.name, "netns", str(holder.pid)]
        device.netns.run(argv, check=True)
        holder.kill()


def wait_for_backends(balancer: LoadBalancer, count: int) -> None:
    deadline = time.monotonic() + TIMEOUT
    while f"{count} backends" not in repr(balancer):  # which looks for nothing by itself
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_deletion_of_which_the_kernel_could_not_tell_is_found_all_the_same(
    made: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A socket without room, whose reader waits for the balancer."""
    told: list[LinkNews | None] = []
    read = LinkSocket.read

    def reading(links: LinkSocket) -> Iterator[LinkNews | None]:
        for news in read(links):
            told.append(news)
            yield news

    monkeypatch.setattr(link_socket, "_RECEIVE_BUFFER", 1)
    monkeypatch.setattr(LinkSocket, "read", reading)
    primary = made.pair.primary
    with LoadBalancer(made.pair, made.vip, PORT, backends=made.backends) as balancer:
        with balancer._lock:
            primary.set(mtu=1399)
            deadline = time.monotonic() + TIMEOUT
            while not told:  # from then on it waits
                assert time.monotonic() < deadline
                time.sleep(0.01)
            for number in range(100):
                primary.set(mtu=1400 + number)
            made.backends[0].delete()
        wait_for_backends(balancer, 2)
    assert None in told


def test_what_cannot_be_published_is_tried_again(
    made: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failures = [OSError(errno.ENOMEM, "no memory")]

    def fail_once(obj: BPFObject, places: bytes) -> None:
        if failures:
            raise failures.pop()
        publish(obj, places)

    with LoadBalancer(made.pair, made.vip, PORT, backends=made.backends) as balancer:
        monkeypatch.setattr("netkit_bpf.functions.members.publish", fail_once)
        made.backends[0].delete()
        wait_for_backends(balancer, 2)
        assert "a change of a backend's pair is not followed yet: [Errno 12] no memory" in caplog.text
        assert set(balancer.table.names) == {each.key for each in balancer._members}
        assert {made.ask() for _ in range(30)} == {"b2", "b3"}
        assert balancer.stats.no_backend == 0


@pytest.mark.parametrize("step", ["before it hears", "before it is whole"])
def test_a_deletion_while_it_is_made_is_not_lost(made: Service, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """Whether its follower hears nothing yet, or hears of what is not whole yet."""

    def delete(*_: object) -> None:
        made.backends[0].delete()
        time.sleep(0.2)

    if step == "before it hears":
        begin = BackendFollower.__init__

        def delete_and_begin(*arguments: Any) -> None:
            delete()
            begin(*arguments)

        monkeypatch.setattr(BackendFollower, "__init__", delete_and_begin)
    else:
        monkeypatch.setattr(LoadBalancer, "_follow_clients", delete)
    with LoadBalancer(made.pair, made.vip, PORT, backends=made.backends) as balancer:
        wait_for_backends(balancer, 2)


def test_a_follower_that_is_dropped_ends_as_after_an_interrupt(made: Service) -> None:
    class Looks:
        def look(self, _changed: Set[int] | None) -> None: ...

    looks = Looks()
    follower = BackendFollower(made.pair.primary.netns, looks.look, ProcessLock())
    thread = follower._thread
    del follower
    thread.join(TIMEOUT)
    assert not thread.is_alive()


def test_a_forked_child_does_not_wait_for_a_thread_that_it_has_not_got(made: Service) -> None:
    with LoadBalancer(made.pair, made.vip, PORT, backends=made.backends) as balancer:
        held, done = threading.Event(), threading.Event()

        def hold() -> None:
            with balancer._lock:
                held.set()
                done.wait()

        with ThreadPoolExecutor() as pool:
            pool.submit(hold)
            held.wait()
            try:
                assert in_child(lambda: str(len(balancer.backends))) == "3"
            finally:
                done.set()
