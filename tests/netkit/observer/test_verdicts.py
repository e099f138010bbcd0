"""An observer alters nothing: neither a blackhole nor what other programs decide."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from held_calls import LINK_CREATE, run_with_held_calls
from netkit_bpf import BPFObject, Device, Monitor, NetkitPair, NetNS, Observer, Policy, Side
from programs import OBSERVER, load
from traffic import End, Wire, collect, ping, send_datagrams

# What the reader needs at most to notice a change, with much to spare for an emulated machine.
SETTLED = 1.0
SHORT = 0.3  # to wait for a reply that must not come


@pytest.fixture
def wire() -> Iterator[Wire]:
    with NetNS.create() as here, NetNS.create() as there:
        with NetkitPair.create("nk0", netns=here, peer_netns=there) as pair:
            pair.primary.add_address("fd00::1/64")
            pair.peer.add_address("fd00::2/64")
            yield Wire(pair, End(here, "fd00::1"), End(there, "fd00::2"))


def test_a_blackhole_stays_one_while_it_is_watched(wire: Wire) -> None:
    wire.pair.set_policy("blackhole", side="peer")
    assert wire.pair.peer_policy is Policy.BLACKHOLE
    assert ping(wire.left, wire.right, [56], timeout=SHORT) == 0
    with Monitor(wire.pair) as monitor:
        assert ping(wire.left, wire.right, [56], timeout=SHORT) == 0
        replies = [event for event in collect(monitor) if event.icmp_type == 129]
        assert [event.side for event in replies] == [Side.PEER]  # seen, and dropped all the same
    assert ping(wire.left, wire.right, [56], timeout=SHORT) == 0


def test_a_policy_that_changes_under_a_monitor_is_followed(wire: Wire) -> None:
    with Monitor(wire.pair):
        assert ping(wire.left, wire.right, [56]) == 1
        wire.pair.set_policy("blackhole")
        _until(lambda: ping(wire.left, wire.right, [56], timeout=SHORT) == 0)
        wire.pair.set_policy("forward")
        _until(lambda: ping(wire.left, wire.right, [56], timeout=SHORT) == 1)


def test_a_monitor_that_keeps_its_place_leaves_a_blackhole_to_the_program_behind(wire: Wire) -> None:
    wire.pair.set_policy("blackhole", side="peer")
    with load() as others, Monitor(wire.pair, keep_first=True) as monitor:
        assert ping(wire.left, wire.right, [56], timeout=SHORT) == 0
        with wire.pair.attach(others.programs["pass"], "peer", before="all") as link:
            _until(lambda: not any(monitor.observers[0].predecessors.values()))
            assert [each.id for each in wire.pair.hook("peer").programs][1:] == [link.program.id]
            collect(monitor)
            assert ping(wire.left, wire.right, [56]) == 1
            assert [event.side for event in collect(monitor) if event.icmp_type == 129] == [Side.PEER]
        _until(lambda: ping(wire.left, wire.right, [56], timeout=SHORT) == 0)


def test_verdicts_never_follow_the_pair_of_a_stranger(wire: Wire) -> None:
    """A pair of the same number, in a namespace whose descriptor has the number that another one had."""
    here = wire.left.netns
    pair = here.call(NetkitPair.open, "nk0")  # holds the namespace by a descriptor of its own
    number = pair.primary.ifindex
    with Monitor(pair):
        del pair
        gc.collect()
        with ExitStack() as stack:
            for _ in range(4):  # one of them has that descriptor's number
                stranger = stack.enter_context(NetNS.create())
                stack.enter_context(NetkitPair.create("nk0", netns=stranger, ifindex=number, policy="blackhole"))
            time.sleep(SETTLED)
            assert ping(wire.left, wire.right, [56]) == 1
            wire.pair.set_policy("blackhole")  # its own is followed still
            _until(lambda: ping(wire.left, wire.right, [56], timeout=SHORT) == 0)


def test_verdicts_stand_where_the_pair_was_moved_and_another_got_its_number(wire: Wire) -> None:
    pair, here = wire.pair, wire.left.netns
    pair.set_policy("blackhole", side="peer")
    number = pair.primary.ifindex
    with load(OBSERVER) as obj, NetNS.create("nk-test-moved") as other:
        with _observe(pair, obj) as observer:
            here.run(["ip", "link", "set", "nk0", "netns", "nk-test-moved"], check=True)
            with NetkitPair.create("nk0", netns=here, ifindex=number, policy="blackhole"):
                observer.check()
                assert obj.variables["verdict"].value == (-1, 2)
            Device.open("nk0", other)


def test_two_monitors_on_a_blackhole_both_see_and_neither_opens_it(wire: Wire) -> None:
    wire.pair.set_policy("blackhole", side="peer")
    with Monitor(wire.pair) as first:
        with Monitor(wire.pair) as second:
            assert ping(wire.left, wire.right, [56], timeout=SHORT) == 0
            for monitor in (first, second):
                assert [event.icmp_type for event in collect(monitor)].count(128) == 1
        time.sleep(SETTLED)
        assert ping(wire.left, wire.right, [56], timeout=SHORT) == 0


def test_an_observer_of_ones_own_keeps_a_blackhole_and_leaves_the_word_to_who_follows(wire: Wire) -> None:
    pair = wire.pair
    pair.set_policy("blackhole", side="peer")
    with load(OBSERVER) as obj, load() as others:
        with _observe(pair, obj) as observer:
            assert obj.variables["verdict"].value == (-1, 2)
            assert ping(wire.left, wire.right, [56], timeout=SHORT) == 0
            assert min(obj.variables["counts"].value) > 0
            with pair.attach(others.programs["pass"], "peer"):
                observer.check()
                assert obj.variables["verdict"].value == (-1, -1)
                assert ping(wire.left, wire.right, [56]) == 1
            observer.check()
            assert obj.variables["verdict"].value == (-1, 2)
            pair.set_policy("forward", side="peer")
            observer.check()
            assert ping(wire.left, wire.right, [56]) == 1


@pytest.mark.parametrize("at", [1, 2])
def test_a_policy_that_changes_while_an_observer_is_attached_is_followed(wire: Wire, at: int) -> None:
    """At the attachment of its first or of its second program: it has looked once then."""
    calls = [0]

    def change() -> None:
        calls[0] += 1
        if calls[0] == at:
            for side in Side:
                wire.pair.set_policy("blackhole", side=side)

    with load(OBSERVER) as obj:
        with run_with_held_calls(lambda: _observe(wire.pair, obj), LINK_CREATE, change):
            assert obj.variables["verdict"].value == (2, 2)
            assert ping(wire.left, wire.right, [56], timeout=SHORT) == 0
    assert calls == [2]


@pytest.mark.parametrize("at", [1, 2])
def test_a_program_that_comes_while_an_observer_is_attached_gets_the_last_word(wire: Wire, at: int) -> None:
    pair = wire.pair
    for side in Side:
        pair.set_policy("blackhole", side=side)
    with load(OBSERVER) as obj, load() as others, ExitStack() as links:
        calls = [0]

        def attach() -> None:
            calls[0] += 1
            if calls[0] == at:
                for side in Side:
                    links.enter_context(pair.attach(others.programs["pass"], side, after="all"))

        with run_with_held_calls(lambda: _observe(pair, obj), LINK_CREATE, attach):
            assert obj.variables["verdict"].value == (-1, -1)
            assert ping(wire.left, wire.right, [56]) == 1


@pytest.mark.parametrize("at", [1, 2])
def test_of_two_observers_that_come_to_a_blackhole_at_once_one_keeps_it(wire: Wire, at: int) -> None:
    for side in Side:
        wire.pair.set_policy("blackhole", side=side)
    with load(OBSERVER) as first, load(OBSERVER) as second, ExitStack() as observers:
        calls = [0]

        def observe_too() -> None:
            calls[0] += 1
            if calls[0] == at:
                observers.enter_context(_observe(wire.pair, second))

        with run_with_held_calls(lambda: _observe(wire.pair, first), LINK_CREATE, observe_too):
            assert ping(wire.left, wire.right, [56], timeout=SHORT) == 0


def test_two_monitors_at_once_both_see_everything(wire: Wire) -> None:
    with Monitor(wire.pair) as first, Monitor(wire.pair) as second:
        send_datagrams(wire.left, wire.right, [10] * 30)
        for monitor in (first, second):
            assert [event.protocol for event in collect(monitor)].count(17) == 30


def _observe(pair: NetkitPair, obj: BPFObject) -> Observer:
    programs = {"primary": obj.programs["of_primary"], "peer": obj.programs["of_peer"]}
    return Observer(pair, programs, verdict=obj.variables["verdict"])


def _until(holds: object) -> None:
    assert callable(holds)
    end = time.monotonic() + 10 * SETTLED
    while not holds():
        assert time.monotonic() < end
