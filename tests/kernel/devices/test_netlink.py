"""The netlink sockets behind namespaces: kept where that harms nobody, shared by threads, never by processes."""

from __future__ import annotations

import errno
import os
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from netkit_bpf import Device, NetkitPair, NetNS
from veth import veth_pair


@pytest.fixture
def pair() -> Iterator[NetkitPair]:
    with NetNS.create() as here, NetNS.create() as there, veth_pair(here, there) as made:
        yield made


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_one_socket_serves_all_calls_in_a_namespace() -> None:
    before = descriptors()
    with NetNS.create() as netns:
        opened = descriptors()
        assert opened == before + 2  # the namespace and the socket
        device = Device.open("lo", netns)
        for _ in range(100):
            device.set_mtu(1500)
        assert descriptors() == opened
    assert descriptors() == before


def test_an_unnamed_namespace_that_is_forgotten_closes_its_socket() -> None:
    before = descriptors()
    Device.open("lo", NetNS.create()).up()
    assert descriptors() == before


def test_threads_share_a_socket_and_each_gets_its_own_answers(pair: NetkitPair) -> None:
    def ask(number: int) -> set[object]:
        device = (pair.primary, Device.open("lo", pair.primary.netns))[number % 2]
        return {(device.name, device.mtu, len(device.addresses) >= 0) for _ in range(200)}

    pair.primary.set_mtu(1400)
    with ThreadPoolExecutor(8) as threads:
        for number, answers in enumerate(threads.map(ask, range(8))):
            assert answers == {("ve0", 1400, True) if number % 2 == 0 else ("lo", 65536, True)}


def test_a_forked_child_has_a_socket_of_its_own(pair: NetkitPair) -> None:
    assert pair.primary.is_up
    stop = threading.Event()
    wrong: list[str] = []

    def ask() -> None:
        while not stop.is_set():
            if pair.primary.name != "ve0":
                wrong.append("parent")

    asking = threading.Thread(target=ask)  # it holds the socket's lock at the fork, most of the time
    asking.start()
    try:
        for _ in range(5):
            child = os.fork()
            if child == 0:
                try:
                    os._exit(0 if all(pair.primary.name == "ve0" for _ in range(100)) else 1)
                finally:
                    os._exit(2)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        stop.set()
        asking.join()
    assert not wrong


def test_a_request_that_fails_by_order_never_reaches_the_kernel(pair: NetkitPair) -> None:
    socket_ = pair.primary.netns._netlink()
    socket_.fail_request(4, errno.ENOMEM)  # each change is two: a look at the device comes first
    pair.primary.set_mtu(1300)
    with pytest.raises(OSError, match=r"set the mtu of ve0: Cannot allocate memory .requested by a test.") as caught:
        pair.primary.set_mtu(1200)
    assert caught.value.errno == errno.ENOMEM
    assert pair.primary.mtu == 1300


def test_namespaces_are_equal_however_they_are_opened() -> None:
    with NetNS.create("nk-test-equal") as made, NetNS.create() as other:
        with made.popen(["sleep", "60"], stdin=subprocess.DEVNULL) as process:
            try:
                opened = [NetNS.open(process.pid), NetNS.open("nk-test-equal"), NetNS.open("/run/netns/nk-test-equal")]
                opened.append(made.call(NetNS.current))
                assert all(each == made for each in opened)
                assert len({made, *opened, other}) == 2
                assert made != other
                assert made != "nk-test-equal"
                link = os.readlink(f"/proc/{process.pid}/ns/net")
                assert link == f"net:[{made.inode}]"
            finally:
                process.kill()
        assert Path("/run/netns/nk-test-equal").stat().st_ino == made.inode
