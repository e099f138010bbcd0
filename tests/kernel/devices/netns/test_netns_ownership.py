"""A namespace is what was opened, whatever becomes of the name, the number and the process that led to it."""

from __future__ import annotations

import gc
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from elsewhere import needs_tcx
from netkit_bpf import BPFObject, Device, NetkitPair, NetNS, Observer, orphans, pairs
from netkit_bpf._core import hook_query
from programs import OBSERVER, load
from veth import veth_pair

NAME = "nk-test-owned"
ROUNDS = 150


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def own() -> str:
    """The calling thread's namespace."""
    return os.readlink("/proc/thread-self/ns/net")


def names(netns: NetNS) -> set[str]:
    return {name for _, name in netns.call(socket.if_nameindex)}


def is_there() -> bool:
    return Path("/run/netns", NAME).exists()


@pytest.fixture
def taken_away() -> Iterator[None]:
    yield
    if is_there():
        ip("netns", "delete", NAME)


@pytest.mark.usefixtures("taken_away")
@pytest.mark.parametrize("made_by", ["ip", "us"])
def test_a_name_that_is_made_anew_is_not_followed(made_by: str) -> None:
    if made_by == "ip":
        ip("netns", "add", NAME)
    first = NetNS.open(NAME) if made_by == "ip" else NetNS.create(NAME)
    ip("-n", NAME, "link", "add", "ve0", "type", "veth", "peer", "name", "ve1")
    ip("netns", "delete", NAME)
    ip("netns", "add", NAME)
    with NetNS.open(NAME) as second:
        assert first != second
        assert first.call(own) == f"net:[{first.inode}]"
        assert names(first) == {"lo", "ve0", "ve1"}
        Device.open("lo", first).up()
        assert not Device.open("lo", second).is_up
        first.delete()  # not the name, which is another's
        assert is_there()
        assert names(second) == {"lo"}
        first.delete()
        second.delete()
        assert not is_there()


def test_a_namespace_that_somebody_deletes_lives_until_its_object_lets_go() -> None:
    with NetNS.create() as here, NetNS.create(NAME) as there, veth_pair(here, there) as pair:
        ip("netns", "delete", NAME)
        assert pair.peer.mtu == 1500
        assert names(here) == {"lo", "ve0"}
        there.delete()
        while "ve0" in names(here):  # pytest's time-out ends it
            pass
        with pytest.raises(ValueError, match="this network namespace is deleted"):
            _ = pair.peer.mtu
        assert repr(there) == f"<NetNS {NAME} net:[{there.inode}] deleted>"


def test_the_link_that_docker_makes_is_taken_and_taken_away_alone() -> None:
    path = Path("/run/netns", NAME)
    with NetNS.create() as netns, netns.popen(["sleep", "60"]) as process:
        path.parent.mkdir(exist_ok=True)
        path.symlink_to(f"/proc/{process.pid}/ns/net")
        try:
            opened = NetNS.open(NAME)
            assert opened == netns
            assert opened.name == NAME
            opened.delete()
            assert not path.is_symlink()
            assert names(netns) == {"lo"}
        finally:
            path.unlink(missing_ok=True)
            process.kill()


def test_a_file_to_which_no_namespace_is_bound_is_refused_and_harms_nobody() -> None:
    path = Path("/run/netns", NAME)
    path.parent.mkdir(exist_ok=True)
    path.touch(0)
    try:
        advice = f"{NAME} is not a network namespace: it is an empty file, .*`ip netns delete {NAME}` removes it"
        with pytest.raises(ValueError, match=advice):
            NetNS.open(NAME)
        orphans()
        pairs()
    finally:
        ip("netns", "delete", NAME)
    assert not path.exists()


def test_a_call_that_meets_a_deletion_lands_in_its_own_namespace_or_is_refused() -> None:
    """While the descriptors' numbers are given to the next ones at once."""
    current = [NetNS.create()]
    stop = threading.Event()
    strays: list[str] = []
    counts = {"inside": 0, "refused": 0}

    def work() -> None:
        while not stop.is_set():
            netns = current[0]
            try:
                found = netns.call(own)
                counts["inside"] += 1
            except ValueError as error:
                found = f"net:[{netns.inode}]" if "namespace is deleted" in str(error) else str(error)
                counts["refused"] += 1
            if found != f"net:[{netns.inode}]":
                strays.append(found)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(ROUNDS):
        last, current[0] = current[0], NetNS.create()
        last.delete()
    stop.set()
    for thread in threads:
        thread.join()
    current[0].delete()
    assert strays == []
    assert counts["inside"] > 0


@needs_tcx
def test_a_hook_is_asked_for_in_its_own_namespace_or_not_at_all() -> None:
    netns = NetNS.create()
    space = netns._open()
    netns.delete()
    with NetNS.create(), pytest.raises(ValueError, match="this network namespace is deleted"):
        hook_query((space, "lo", 1, "", 2))  # there is one of that number in every namespace


@pytest.fixture
def obj() -> Iterator[BPFObject]:
    with load(OBSERVER) as loaded:
        yield loaded


def observe(pair: NetkitPair, obj: BPFObject) -> Observer:
    programs = {"primary": obj.programs["of_primary"], "peer": obj.programs["of_peer"]}
    return Observer(pair, programs, verdict=obj.variables["verdict"])


@needs_tcx
def test_an_observer_looks_after_its_own_pair_when_all_else_is_let_go(obj: BPFObject) -> None:
    with NetNS.create() as here, NetNS.create() as there, veth_pair(here, there) as pair:
        opened = NetNS.open(f"/proc/self/fd/{here.fileno()}")
        again = NetkitPair(Device.open(pair.primary.ifindex, opened), None, owned=False)
        with observe(again, obj) as observer:
            del again, opened
            gc.collect()
            with NetNS.create(), NetNS.create():  # have the numbers of the descriptors now
                obj.variables["verdict"].value = (2, 2)
                observer.check()
                assert obj.variables["verdict"].value == (-1, -1)


@needs_tcx
def test_an_observer_holds_nothing_back_when_its_namespace_is_deleted(obj: BPFObject) -> None:
    with NetNS.create() as there:
        here = NetNS.create()
        with veth_pair(here, there) as pair, observe(pair, obj) as observer:
            here.delete()
            while "ve1" in names(there):  # pytest's time-out ends it
                pass
            with pytest.raises(OSError, match="the device or its network namespace was deleted"):
                observer.check()


@needs_tcx
def test_an_observer_leaves_the_device_alone_that_got_its_devices_number(obj: BPFObject) -> None:
    with NetNS.create() as here, NetNS.create() as there, veth_pair(here, there) as pair:
        number = pair.primary.ifindex
        with observe(pair, obj) as observer, there.popen(["sleep", "60"]) as holder:
            here.run(["ip", "link", "set", "ve0", "netns", str(holder.pid)], check=True)
            holder.kill()
            new = ["ip", "link", "add", "stranger", "index", str(number), "type", "veth", "peer", "name", "x"]
            here.run(new, check=True)
            obj.variables["verdict"].value = (2, 2)
            observer.check()
            assert obj.variables["verdict"].value == (2, 2)  # the last ones stand
            assert names(there) == {"lo", "ve0", "ve1"}
        Device.open("ve0", there)
