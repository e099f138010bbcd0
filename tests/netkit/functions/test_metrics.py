# SPDX-License-Identifier: MIT
"""Flow metrics on netkit pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import flow_scenarios
from examples import example
from netkit_bpf import Firewall, FlowMetrics, NetkitPair, NetNS, Side
from traffic import End, Wire, ping

ADDRESSES = {4: ("10.42.0.1/24", "10.42.0.2/24"), 6: ("fd00::1/64", "fd00::2/64")}


@pytest.fixture(params=["l3", "l2"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[6, 4], ids=["IPv6", "IPv4"])
def wire(request: pytest.FixtureRequest, mode: str) -> Iterator[Wire]:
    left, right = ADDRESSES[request.param]
    with (
        NetNS.create() as here,
        NetNS.create() as there,
        NetkitPair.create("nk0", mode=mode, netns=here, peer_netns=there) as pair,
    ):
        pair.primary.add_address(left)
        pair.peer.add_address(right)
        yield Wire(pair, End(here, left.split("/")[0]), End(there, right.split("/")[0]))


@pytest.mark.parametrize("scenario", flow_scenarios.ALL, ids=lambda scenario: scenario.__name__)
def test_on_netkit(scenario: Callable[[Wire], None], wire: Wire) -> None:
    scenario(wire)


def test_what_is_counted_stays_when_the_devices_go(wire: Wire) -> None:
    flow_scenarios.LAST(wire)


def test_a_blackhole_stays_shut_and_is_counted(wire: Wire) -> None:
    wire.pair.set_policy("blackhole", side="primary")
    with FlowMetrics(wire.pair) as metrics:
        assert ping(wire.left, wire.right, [8], timeout=0.5) == 0
        assert metrics.snapshot().by("side")[Side.PRIMARY].packets >= 1


@pytest.mark.parametrize("first", ["firewall", "metrics"])
def test_behind_a_firewall_that_drops_nothing_is_counted(wire: Wire, first: str) -> None:
    rules = "drop primary icmp from any to any\ndrop primary icmp6 from any to any"
    firewall = Firewall(wire.pair, rules) if first == "firewall" else None
    with FlowMetrics(wire.pair) as metrics:
        with firewall or Firewall(wire.pair, rules):
            assert ping(wire.left, wire.right, [8], timeout=0.5) == 0
            assert [flow for flow in metrics.snapshot() if flow.icmp_type in (8, 128)] == []


def test_metrics_and_the_device_agree_about_disabled_families() -> None:
    """No packet but those that are sent: the pair of a namespace without IPv6 is silent."""
    with NetNS.create() as here, NetNS.create() as there:
        for netns in (here, there):
            netns.call(Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text, "1")
        with NetkitPair.create("nk0", netns=here, peer_netns=there) as pair, FlowMetrics(pair) as metrics:
            assert len(metrics.snapshot()) == 0


def test_the_example_tells_who_talked_to_whom(capsys: pytest.CaptureFixture[str]) -> None:
    with NetNS.create() as host:
        host.call(example("who_talks_to_whom").main)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("[peer] tcp [fd00::2]:8080 -> [fd00::1]:")
    assert "handshake" in lines[1]
    totals = {line.split(":")[0]: line for line in lines if line.startswith(("peer", "primary"))}
    assert int(totals["peer TCP"].split()[4]) > 1 << 20
    assert "primary TCP" in totals
    assert any(line.startswith("from fd00::/64: ") for line in lines)
