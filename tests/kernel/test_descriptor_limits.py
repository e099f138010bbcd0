"""Where descriptors run out, at whatever step, that is said, and none is left open."""

from __future__ import annotations

import errno
import gc
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from elsewhere import needs_tcx
from netkit_bpf import (
    BPFObject,
    Firewall,
    FlowMetrics,
    Map,
    Monitor,
    NetkitPair,
    NetNS,
    Observer,
    RingBuffer,
    Ruleset,
    trace_log,
)
from programs import OBSERVER, build, load
from tracing import mounted_tracefs
from veth import quiet_pair

MOST = 80  # descriptors; enough for each


@contextmanager
def limit(descriptors: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def opened() -> list[int]:
    return sorted(int(each) for each in os.listdir("/proc/self/fd"))[:-1]  # but the one for looking


def why_not(make: Callable[[], object], spare: int) -> OSError | None:
    """Make something with so many descriptors to spare; returns the error if they were too few."""
    gc.collect()
    before = opened()
    error = None
    with limit(len(before) + spare):
        try:
            make()
        except OSError as caught:
            error = caught.with_traceback(None)
    gc.collect()
    assert opened() == before
    return error


def check(make: Callable[[], object]) -> None:
    make()  # what is kept for the life of the process is there now
    holes = [os.dup(0) for _ in range(16)]  # the numbers in use are the lowest ones
    try:
        assert opened() == [*range(len(opened()))]
        for spare in range(MOST):
            error = why_not(make, spare)
            if error is None:
                assert spare > 0
                return
            assert error.errno == errno.EMFILE, error
        pytest.fail(f"{MOST} descriptors are not enough")
    finally:
        for fd in holes:
            os.close(fd)


def test_namespaces_and_maps_and_objects() -> None:
    image = build(OBSERVER)
    check(lambda: NetNS.create().delete())
    check(lambda: NetNS.create("nk-test-limits").delete())
    assert not Path("/run/netns/nk-test-limits").exists()
    check(lambda: NetNS.open("/proc/self/ns/net").delete())
    check(lambda: BPFObject.open(image).__enter__().close())


def test_a_trace_log(tmp_path: Path) -> None:
    with mounted_tracefs(tmp_path):
        check(lambda: trace_log().close())


@pytest.fixture
def pair() -> Iterator[NetkitPair]:
    with quiet_pair() as made:
        yield made


@needs_tcx
@pytest.mark.parametrize("rings", ["shared", "ordered"])
@pytest.mark.parametrize("filtered", ["", "udp"])
def test_a_monitor(pair: NetkitPair, rings: str, filtered: str) -> None:
    def make() -> None:
        with Monitor(pair, rings=rings, filter=filtered or None, thread="own") as monitor:  # type: ignore[arg-type]
            monitor.fileno()

    check(make)


@needs_tcx
def test_what_is_attached_and_read(pair: NetkitPair) -> None:
    with load(OBSERVER) as obj, Map.create("ringbuf", max_entries=4096) as ring:
        program, verdict = obj.programs["of_peer"], obj.variables["verdict"]
        check(lambda: pair.watch().close())
        check(lambda: Observer(pair, {"peer": program}, verdict=verdict, filter="udp").close())
        check(lambda: RingBuffer(ring, thread="own").close())
        check(lambda: RingBuffer(ring, thread=None).close())
    check(lambda: Firewall(pair, "drop peer udp").close())
    check(lambda: FlowMetrics(pair, slots=64).close())


@needs_tcx
def test_rules_are_replaced_whole_or_not_at_all(pair: NetkitPair) -> None:
    old, new = Ruleset.parse("drop udp"), Ruleset.parse("pass udp")
    with Firewall(pair, old) as firewall:
        firewall.replace(old)
        before = len(opened())
        for spare in range(MOST):
            error = None
            with limit(before + spare):
                try:
                    firewall.replace(new)
                except OSError as caught:
                    error = caught.with_traceback(None)
            gc.collect()
            assert error is None or error.errno == errno.EMFILE, error
            assert len(opened()) == before
            assert firewall.rules == (new if error is None else old)
            assert firewall.counters.default.packets == 0
            if error is None:
                break
        else:
            pytest.fail(f"{MOST} descriptors are not enough")
        firewall.replace(old)
        assert firewall.rules == old
