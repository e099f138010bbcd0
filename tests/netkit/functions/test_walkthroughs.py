"""What the public introductions to netkit walk their readers through, done here and checked."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from forked import Forked
from netkit_bpf import NetkitPair, NetNS, Side
from programs import load
from traffic import End, ping

HERE, LAB = "10.42.0.1", "10.42.0.2"


@pytest.fixture(params=["l3", "l2"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def pair(netns: NetNS, mode: str) -> Iterator[NetkitPair]:
    """nk0 here, its peer in a namespace called lab, an address at each end."""
    with NetNS.create("nk-test-lab") as lab:
        for place in (netns, lab):  # so that what the tests send is all that is sent
            place.call(Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text, "1")
        with NetkitPair.create("nk0", mode=mode, netns=netns, peer_netns=lab) as made:
            made.primary.add_address(f"{HERE}/24")
            made.peer.add_address(f"{LAB}/24")
            yield made


def both_ways(pair: NetkitPair, wait: str = "5") -> list[bool]:
    """Whether ping gets an answer from here, and from the lab."""
    done = [
        sender.run(["ping", "-n", "-q", "-c1", "-W", wait, address], capture_output=True)
        for sender, address in ((pair.primary.netns, LAB), (pair.peer.netns, HERE))
    ]
    return [each.returncode == 0 for each in done]


def neighbours(pair: NetkitPair) -> list[str]:
    found = []
    for end in (pair.primary, pair.peer):
        argv = ["ip", "-4", "neighbour", "show", "dev", end.name]
        found += end.netns.run(argv, capture_output=True, text=True, check=True).stdout.splitlines()
    return found


def test_both_ends_of_a_lab_ping_each_other_and_only_l2_learns_neighbours(pair: NetkitPair, mode: str) -> None:
    assert both_ways(pair) == [True, True]
    learnt = [line.split()[0] for line in neighbours(pair)]
    assert sorted(learnt) == ([] if mode == "l3" else [HERE, LAB])


@pytest.mark.parametrize("mode", ["l3"], indirect=True)
def test_a_blackhole_at_both_ends_drops_every_ping_and_counts_it(pair: NetkitPair) -> None:
    pair.set_policy("blackhole", side=Side.PRIMARY)
    pair.set_policy("blackhole", side=Side.PEER)
    before = [end.statistics.tx_dropped for end in (pair.primary, pair.peer)]
    left, right = End(pair.primary.netns, HERE), End(pair.peer.netns, LAB)
    assert ping(left, right, [56] * 3, timeout=0.2) == 0
    assert ping(right, left, [56] * 2, timeout=0.2) == 0
    after = [end.statistics.tx_dropped for end in (pair.primary, pair.peer)]
    assert [now - then for now, then in zip(after, before, strict=True)] == [3, 2]


@pytest.mark.parametrize("mode", ["l3"], indirect=True)
def test_a_program_opens_a_blackhole_until_its_process_is_killed(pair: NetkitPair) -> None:
    pair.set_policy("blackhole", side=Side.PRIMARY)
    pair.set_policy("blackhole", side=Side.PEER)
    assert both_ways(pair, wait="0.2") == [False, False]

    def open_it() -> object:
        programs = load()
        return programs, [pair.attach(programs.programs["pass"], side) for side in Side]

    with Forked(open_it) as child:
        assert both_ways(pair) == [True, True]
        child.kill()
    while any(pair.programs(side).programs for side in Side):  # the kernel detaches in its own time
        time.sleep(0.01)
    assert both_ways(pair, wait="0.2") == [False, False]
