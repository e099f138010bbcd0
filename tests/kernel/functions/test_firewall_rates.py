# SPDX-License-Identifier: MIT
"""Rates of rules: how many packets they pass, what becomes of the rest, and what a replacement leaves of them."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator

import pytest

from decoder import TCP, UDP
from firewall_frames import Loaded
from netkit_bpf import Firewall, Rule, RuleCount, Ruleset, Verdict
from packets import ipv4, ipv6, tcp, udp
from traffic import Wire, towards
from veth import veth_wire

PASS, DROP = -1, 2
FRAME = ipv4(UDP, udp())
SECOND = 1_000_000_000


@pytest.fixture
def wire4() -> Iterator[Wire]:
    with veth_wire(4) as wire:
        yield wire


def test_a_burst_passes_and_what_exceeds_it_is_dropped_and_counted() -> None:
    with Loaded("pass udp rate 1/d burst 7\npass") as loaded:
        verdicts = [loaded.verdict(FRAME) for _ in range(10)]
        assert verdicts == [PASS] * 7 + [DROP] * 3
        assert loaded.verdict(ipv6(TCP, tcp())) == PASS
        assert loaded.object.maps["counts"].sum_cpus()[:6] == [10, 10 * len(FRAME), 3, 1, len(ipv6(TCP, tcp())), 0]


def test_a_bucket_is_filled_again_at_the_rate() -> None:
    with Loaded("drop tcp\npass udp rate 3/min burst 4", Verdict.DROP) as loaded:
        assert [loaded.verdict(FRAME) for _ in range(5)] == [PASS] * 4 + [DROP]
        bucket = loaded.object.maps["buckets"][1]
        loaded.object.maps["buckets"][1] = bucket._replace(full_at=bucket.full_at - 40 * SECOND)  # later
        assert [loaded.verdict(FRAME) for _ in range(3)] == [PASS] * 2 + [DROP]
        loaded.object.maps["buckets"][1] = bucket._replace(full_at=0)  # long after: no more than the burst
        assert [loaded.verdict(FRAME) for _ in range(5)] == [PASS] * 4 + [DROP]


def test_no_more_pass_in_a_time_than_the_rate_and_a_burst() -> None:
    rate, burst = 20_000, 10
    with Loaded(f"pass udp rate {rate}/s burst {burst}", Verdict.DROP) as loaded:
        program = loaded.object.programs["firewall_peer"]
        began = time.monotonic()
        for _ in range(20):
            program.test_run(FRAME, repeat=10_000)
        most = (time.monotonic() - began) * rate + burst + 1
        packets, _, limited, *_ = loaded.object.maps["counts"].sum_cpus()
    assert packets == 200_000
    assert burst < packets - limited <= most


def test_the_greatest_burst_of_the_slowest_rate_does_not_wrap() -> None:
    with Loaded("pass udp rate 1/d burst 1000000000") as loaded:
        assert [loaded.verdict(FRAME) for _ in range(20)] == [PASS] * 20
    with Loaded("pass udp rate 1000000000/s burst 1") as loaded:
        assert loaded.verdict(FRAME) == PASS


def test_rules_that_stay_keep_their_tokens(wire4: Wire) -> None:
    rule, other = "pass udp rate 1/d burst 3", "pass udp from any to any port 7 rate 1/d"
    with Firewall(wire4.pair, [rule, "pass"], sides=["primary"]) as firewall:
        assert send(wire4, 2) == 2
        firewall.replace([other, rule, "pass"])
        assert send(wire4, 2) == 1
        assert firewall.counters[Rule.parse(rule)] == RuleCount(4, 4 * 43, 1)
        firewall.replace(["pass"])
        firewall.replace([rule, "pass"])
        assert send(wire4, 4) == 3
        assert firewall.counters[Rule.parse(rule)] == RuleCount(4, 4 * 43, 1)


def send(wire: Wire, count: int) -> int:
    """Send so many datagrams, one after the other; returns how many arrive, which they do before the sender goes on."""
    with wire.right.socket(socket.SOCK_DGRAM) as into, wire.left.socket(socket.SOCK_DGRAM) as out:
        into.bind(wire.right.name(0))
        for _ in range(count):
            with contextlib.suppress(OSError):  # the sender of a netkit pair is told of what is dropped
                out.sendto(b"x", towards(wire.left, wire.right, into.getsockname()[1]))
        into.setblocking(False)
        arrived = 0
        with contextlib.suppress(BlockingIOError):
            while into.recv(8):
                arrived += 1
        return arrived


def test_a_rate_of_a_connection_counts_its_beginning() -> None:
    """What is established passes without a rule, and takes no token."""
    frame = ipv4(TCP, tcp(2))
    with Loaded(Ruleset(["pass tcp flags S/SA rate 1/d burst 1", "drop"])) as loaded:
        assert [loaded.verdict(frame) for _ in range(2)] == [PASS, DROP]
