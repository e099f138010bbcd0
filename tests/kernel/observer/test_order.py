# SPDX-License-Identifier: MIT
"""The order of packet functions on a hook: firewall, observers, balancer, whichever was attached first."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator

import pytest

from elsewhere import needs_tcx
from netkit_bpf import BPFObject, Firewall, FlowMetrics, Hook, Link, LoadBalancer, Monitor, NetkitPair, Rank
from programs import HEADER, load
from traffic import Wire, ping
from veth import quiet_pair

pytestmark = needs_tcx

# Called as the functions that ship are, by which these are known, and strangers.
NAMED = (
    HEADER
    + """
SEC("tc") int firewall_peer(struct __sk_buff *skb) { return -1; }
SEC("tc") int firewall_primary(struct __sk_buff *skb) { return -1; }
SEC("tc") int monitor_peer(struct __sk_buff *skb) { return -1; }
SEC("tc") int metrics_peer(struct __sk_buff *skb) { return -1; }
SEC("tc") int balancer_peer(struct __sk_buff *skb) { return -1; }
SEC("tc") int firewall_of_others(struct __sk_buff *skb) { return -1; }
SEC("tc") int stranger(struct __sk_buff *skb) { return -1; }
"""
)
EVERY = ("firewall", "monitor", "metrics", "balancer")
FUNCTIONS = {"firewall": Firewall, "monitor": Monitor}


@pytest.fixture
def pair() -> Iterator[NetkitPair]:
    with quiet_pair() as made:
        yield made


@pytest.fixture
def named() -> Iterator[BPFObject]:
    with load(NAMED) as loaded:
        yield loaded


def names(pair: NetkitPair, side: str = "peer") -> list[str | None]:
    return [each.name for each in pair.programs(side).programs]


@pytest.mark.parametrize("order", list(itertools.permutations(EVERY)), ids="-".join)
def test_a_firewall_is_first_and_a_balancer_last_whichever_was_attached_first(
    pair: NetkitPair, order: tuple[str, ...]
) -> None:
    make: dict[str, Callable[[], contextlib.AbstractContextManager[object]]] = {
        "firewall": lambda: Firewall(pair),
        "monitor": lambda: Monitor(pair),
        "metrics": lambda: FlowMetrics(pair),
        "balancer": lambda: LoadBalancer(pair, "192.0.2.80", 80),
    }
    with contextlib.ExitStack() as attached:
        for name in order:
            attached.enter_context(make[name]())
        first, *observers, last = names(pair)
        assert (first, last) == ("firewall_peer", "balancer_client")
        assert sorted(str(each) for each in observers) == ["metrics_peer", "monitor_peer"]
        assert names(pair, "primary")[0] == "firewall_primar"
        assert len(names(pair, "primary")) == 3


@pytest.mark.parametrize("order", list(itertools.permutations(["firewall", "observer", "balancer"])), ids="-".join)
def test_beside_the_programs_of_others_a_firewall_and_observers_are_in_front_and_a_balancer_behind(
    pair: NetkitPair, named: BPFObject, order: tuple[str, ...]
) -> None:
    program = {"firewall": "firewall_peer", "observer": "metrics_peer", "balancer": "balancer_peer"}
    with pair.attach(named.programs["stranger"], "peer"), contextlib.ExitStack() as attached:
        for rank in order:
            attached.enter_context(pair.attach(named.programs[program[rank]], "peer", rank=rank))
        assert names(pair) == ["firewall_peer", "metrics_peer", "stranger", "balancer_peer"]


def test_an_observer_goes_behind_each_firewall_also_where_that_was_put_elsewhere(
    pair: NetkitPair, named: BPFObject
) -> None:
    hook = pair.hook("peer")
    with (
        hook.attach(named.programs["stranger"]) as stranger,
        hook.attach(named.programs["firewall_peer"], rank="firewall", after=stranger),
        hook.attach(named.programs["firewall_primary"], rank=Rank.FIREWALL),
        hook.attach(named.programs["balancer_peer"], rank="balancer"),
        hook.attach(named.programs["monitor_peer"], rank="observer"),
    ):
        assert names(pair) == ["firewall_primar", "stranger", "firewall_peer", "monitor_peer", "balancer_peer"]


def test_a_program_of_others_is_not_taken_for_a_firewall(pair: NetkitPair, named: BPFObject) -> None:
    with pair.attach(named.programs["firewall_of_others"], "peer"), Monitor(pair, sides=["peer"]):
        assert names(pair) == ["monitor_peer", "firewall_of_oth"]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_who_says_where_is_obeyed(pair: NetkitPair, named: BPFObject, function: str) -> None:
    make, ours = FUNCTIONS[function], f"{function}_peer"
    with pair.attach(named.programs["stranger"], "peer") as stranger:
        for where, expected in (
            ({"after": "all"}, ["stranger", ours]),
            ({"after": stranger}, ["stranger", ours]),
            ({"before": stranger}, [ours, "stranger"]),
            ({"before": named.programs["stranger"]}, [ours, "stranger"]),
        ):
            with make(pair, sides=["peer"], **where):
                assert names(pair) == expected
        with Firewall(pair, sides=["peer"]), Monitor(pair, sides=["peer"], before="all"):
            assert names(pair) == ["monitor_peer", "firewall_peer", "stranger"]
        with pytest.raises(ValueError, match="before and after: give one of them"):
            make(pair, before="all", after="all")
        with pytest.raises(FileNotFoundError, match="is not on this hook"):
            make(pair, sides=["primary"], after=stranger)
        assert names(pair) == ["stranger"]
        assert names(pair, "primary") == []


def test_a_rank_is_one_of_three_words(pair: NetkitPair, named: BPFObject) -> None:
    with pytest.raises(ValueError, match="rank must be 'firewall' or 'observer' or 'balancer', not 'last'"):
        pair.attach(named.programs["stranger"], "peer", rank="last")
    assert names(pair) == []


def test_a_rank_goes_with_an_expected_revision(pair: NetkitPair, named: BPFObject) -> None:
    hook = pair.hook("peer")
    with hook.attach(named.programs["firewall_peer"], rank="firewall"):
        revision = hook.revision
        assert revision is not None
        for rank, program in (("observer", "monitor_peer"), ("balancer", "balancer_peer")):
            with pytest.raises(OSError, match="ESTALE"):
                hook.attach(named.programs[program], rank=rank, expected_revision=revision + 1)
        with hook.attach(named.programs["monitor_peer"], rank="observer", expected_revision=revision):
            assert names(pair) == ["firewall_peer", "monitor_peer"]


def test_what_a_monitor_sees_is_what_the_firewall_passes_in_either_order(wire: Wire) -> None:
    with Monitor(wire.pair) as earlier, Firewall(wire.pair, "drop icmp"), Monitor(wire.pair) as later:
        assert ping(wire.left, wire.right, [56], timeout=0.2) == 0
        for monitor in (earlier, later):
            assert not [event for event in monitor.events(timeout=0.2) if event.family == 4]


def test_an_observer_and_a_firewall_that_come_at_once_are_in_order(pair: NetkitPair, named: BPFObject) -> None:
    """On an empty hook too, whose revision the kernel does not tell."""
    hook = pair.hook("peer")
    meet = threading.Barrier(2, timeout=30)
    links: list[Link] = []

    def attach(program: str, rank: str) -> None:
        meet.wait()
        links.append(hook.attach(named.programs[program], rank=rank))

    for attempt in range(200):
        with contextlib.ExitStack() as attached:
            if attempt % 2:
                attached.enter_context(hook.attach(named.programs["stranger"]))
            both = [
                threading.Thread(target=attach, args=args)
                for args in (("monitor_peer", "observer"), ("firewall_peer", "firewall"))
            ]
            for thread in both:
                thread.start()
            for thread in both:
                thread.join()
            assert names(pair)[:2] == ["firewall_peer", "monitor_peer"], attempt
        while links:
            links.pop().close()


def test_a_place_is_chosen_anew_when_the_hook_changes_meanwhile(pair: NetkitPair, named: BPFObject) -> None:
    hook = pair.hook("peer")
    done = threading.Event()
    changer = threading.Thread(target=come_and_go, args=(hook, named, done))
    with hook.attach(named.programs["firewall_primary"], rank="firewall"):
        changer.start()
        try:
            for _ in range(100):
                with hook.attach(named.programs["monitor_peer"], rank="observer"):
                    found = names(pair)
                    assert found.index("monitor_peer") > found.index("firewall_primar"), found
        finally:
            done.set()
            changer.join()


def come_and_go(hook: Hook, named: BPFObject, done: threading.Event) -> None:
    while not done.is_set():
        with hook.attach(named.programs["stranger"], before="all"):
            pass
