"""The check that runs after each test of this suite sees what is this process's own: all of it, and nothing else."""

from __future__ import annotations

import mmap
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from elsewhere import needs_tcx
from netkit_bpf import Device, Map, NetNS
from noise import machine_in_use
from programs import ONE, load
from pytest_netkit_bpf.leaks import Resources
from syscall import attach_without_link

ROUNDS = 5


@contextmanager
def descriptor() -> Iterator[None]:
    fd = os.open("/dev/null", os.O_RDONLY)
    yield
    os.close(fd)


@contextmanager
def thread() -> Iterator[None]:
    end = threading.Event()
    started = threading.Thread(target=end.wait)
    started.start()
    yield
    end.set()
    started.join()


@contextmanager
def process() -> Iterator[None]:
    with subprocess.Popen(["sleep", "60"]) as started:
        yield
        started.kill()


@contextmanager
def device() -> Iterator[None]:
    ip("link", "add", "ve0", "type", "veth", "peer", "name", "ve1")
    yield
    ip("link", "delete", "ve0")


@contextmanager
def mount() -> Iterator[None]:
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run/netkit-bpf"], check=True)
    yield
    subprocess.run(["umount", "/run/netkit-bpf"], check=True)


@contextmanager
def named_namespace() -> Iterator[None]:
    with NetNS.create("nk-test-leak"):
        yield


@contextmanager
def namespace_of_another_tool() -> Iterator[None]:
    ip("netns", "add", "nk-test-leak")
    yield
    ip("netns", "delete", "nk-test-leak")


@contextmanager
def unnamed_namespace() -> Iterator[None]:
    with NetNS.create():
        yield


@contextmanager
def program() -> Iterator[None]:
    with load(ONE):
        yield


@contextmanager
def map_descriptor() -> Iterator[None]:
    with an_array():
        yield


@contextmanager
def pin() -> Iterator[None]:
    with an_array() as made:
        made.pin("/sys/fs/bpf/nk-test-leak")
    yield
    Path("/sys/fs/bpf/nk-test-leak").unlink()


@contextmanager
def mapping() -> Iterator[None]:
    with Map.create("ringbuf", max_entries=4096) as ring:
        memory = mmap.mmap(ring._fileno(), 4096, prot=mmap.PROT_READ)
    yield
    memory.close()


@contextmanager
def link() -> Iterator[None]:
    obj = load(ONE)
    made = Device.open("lo").attach(obj.programs["one"], "ingress")
    obj.close()
    yield
    made.close()


@contextmanager
def attachment_without_a_link() -> Iterator[None]:
    yield from attached_to(Device.open("lo"))


@contextmanager
def attachment_in_a_namespace_that_was_there() -> Iterator[None]:
    yield from attached_to(Device.open("lo", there[0]))


@contextmanager
def program_of_a_child() -> Iterator[None]:
    with load(ONE) as obj, subprocess.Popen(["sleep", "60"], pass_fds=[obj.programs["one"]._fileno()]) as child:
        obj.close()
        yield
        child.kill()


there: list[NetNS] = []


@pytest.fixture(autouse=True)
def _a_namespace_is_there() -> Iterator[None]:
    with NetNS.create() as netns:
        there.append(netns)
        yield
        there.clear()


def an_array() -> Map:
    return Map.create("array", key_size=4, value_size=4, max_entries=1)


def attached_to(lo: Device) -> Iterator[None]:
    with load(ONE) as obj:
        lo.netns.call(attach_without_link, obj.programs["one"]._fileno(), lo.ifindex)
    yield
    lo.detach(lo.programs("ingress").programs[0], "ingress")


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


KINDS = [
    (descriptor, "-> /dev/null"),
    (thread, "thread "),
    (process, "process "),
    (device, "ve0"),
    (mount, "mount /run/netkit-bpf"),
    (named_namespace, "namespace nk-test-leak"),
    (namespace_of_another_tool, "namespace nk-test-leak"),
    (unnamed_namespace, "-> net:["),
    (program, "program "),
    (map_descriptor, "map "),
    (pin, "pin /sys/fs/bpf/nk-test-leak"),
    (mapping, "memory of a BPF map"),
    (program_of_a_child, "program "),
    pytest.param(link, "link ", marks=needs_tcx),
    pytest.param(attachment_without_a_link, " on lo (tcx ingress)", marks=needs_tcx),
    pytest.param(attachment_in_a_namespace_that_was_there, " on lo (tcx ingress)", marks=needs_tcx),
]


@pytest.mark.parametrize(("leak", "named"), KINDS)
def test_each_kind_of_leak_is_noticed(leak: Callable[[], AbstractContextManager[None]], named: str) -> None:
    before = Resources.now()
    with leak():
        left = before.wait_until_back(0.0)
        assert [name for name in left if named in name], left
    assert before.wait_until_back() == []


def test_what_others_on_the_machine_do_is_not_seen() -> None:
    with machine_in_use() as rounds:
        before = Resources.now()
        for _ in range(ROUNDS):
            rounds()
            for _ in range(10):
                assert before.wait_until_back(1.0) == []  # the look's own threads end a moment after it
