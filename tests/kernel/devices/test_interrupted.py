"""Whatever step of a creation Ctrl-C interrupts, nothing is left of it: neither devices nor names nor descriptors.

What waits for the kernel is tried fewer times; NETKIT_BPF_CYCLES=1000 tries everything so often.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from elsewhere import needs_echo, needs_tcx
from interrupting import SLOW_TIMES, TIMES, Closed, interrupt
from netkit_bpf import BPFObject, Firewall, Map, Monitor, NetkitPair, NetNS, Observer, RingBuffer, trace_log
from netkit_bpf._core import hand_over
from netkit_bpf.devices.pair import create_pairs
from netkit_bpf.devices.pair_options import check_pair_options
from programs import OBSERVER, build, load
from pytest_netkit_bpf.leaks import Resources
from tracing import instances, mounted_tracefs
from veth import quiet_pair, veth_pair

# An object that is let go of while Ctrl-C unwinds is told, too; as an error that keeps it, that would keep the name.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture
def here() -> Iterator[NetNS]:
    with NetNS.create() as netns:
        yield netns


def devices(netns: NetNS) -> list[str]:
    return [name for _, name in netns.call(socket.if_nameindex)]


def make_veth_pair(netns: NetNS) -> NetkitPair:
    """As `NetkitPair.create` makes it, of a kind that old kernels have."""
    options = check_pair_options("ve0", "ve1")
    options.kind = "veth"
    return hand_over(create_pairs(netns, [(options, netns)])[0])


@needs_echo
def test_no_pair_is_left(here: NetNS) -> None:
    before = Resources.now()
    interrupted = interrupt(lambda: make_veth_pair(here))
    assert interrupted > TIMES / 10
    assert devices(here) == ["lo"]
    assert before.wait_until_back() == []


@pytest.mark.parametrize("name", ["nk-test-interrupted", None])
def test_no_namespace_is_left(name: str | None) -> None:
    before = Resources.now()
    interrupted = interrupt(lambda: NetNS.create(name))
    assert interrupted > TIMES / 10
    assert not Path("/run/netns/nk-test-interrupted").exists()
    assert before.wait_until_back() == []


def test_no_instance_of_the_trace_is_left(tmp_path: Path) -> None:
    with mounted_tracefs(tmp_path) as tracefs:
        before = Resources.now()
        interrupted = interrupt(lambda: Closed(trace_log()), SLOW_TIMES)
        assert interrupted > SLOW_TIMES / 10
        assert instances(tracefs, os.getpid()) == []
        assert before.wait_until_back() == []


def test_no_descriptor_is_left_of_what_is_opened(here: NetNS) -> None:
    with veth_pair(here, here) as pair:
        before = Resources.now()
        for make in (
            lambda: Closed(NetNS.current()),
            lambda: Closed(NetNS.open("/proc/self/ns/net")),
            lambda: Closed(pair.watch()),
        ):
            assert interrupt(make) > TIMES / 10
            assert before.wait_until_back() == []


def test_no_map_and_no_object_is_left() -> None:
    program = build(OBSERVER)
    before = Resources.now()
    for make in (
        lambda: Closed(Map.create("array", key_size=4, value_size=4, max_entries=1)),
        lambda: Closed(BPFObject.open(program).__enter__()),
    ):
        assert interrupt(make) > TIMES / 10
        assert before.wait_until_back() == []


@needs_tcx
@pytest.mark.parametrize("what", ["link", "observer", "ring buffer", "monitor", "firewall"])
def test_nothing_is_left_that_was_attached_or_read(what: str) -> None:
    with quiet_pair() as pair, load(OBSERVER) as obj, Map.create("ringbuf", max_entries=4096) as ring:
        program, verdict = obj.programs["of_peer"], obj.variables["verdict"]
        makers: dict[str, Callable[[], AbstractContextManager[object]]] = {
            "link": lambda: pair.attach(program, "peer"),
            "observer": lambda: Observer(pair, {"peer": program}, verdict=verdict),
            "ring buffer": lambda: RingBuffer(ring, thread="own"),
            "monitor": lambda: Monitor(pair, thread="own"),
            "firewall": lambda: Firewall(pair, "drop peer udp"),
        }
        make = makers[what]
        before = Resources.now()
        assert interrupt(lambda: Closed(make()), SLOW_TIMES) > SLOW_TIMES / 10
        assert before.wait_until_back() == []
