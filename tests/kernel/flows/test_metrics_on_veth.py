# SPDX-License-Identifier: MIT
"""Flow metrics on the hooks of a pair: natively, on the tcx hooks of a veth pair."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import flow_scenarios
from elsewhere import need, needs_tcx
from netkit_bpf import FlowMetrics, FlowTable, Monitor, Side
from sender import Sender
from traffic import Wire, connect_and_send
from veth import quiet_pair, veth_wire

pytestmark = needs_tcx


@pytest.fixture(params=[6, 4], ids=["IPv6", "IPv4"])
def wire(request: pytest.FixtureRequest) -> Iterator[Wire]:
    with veth_wire(request.param) as made:
        yield made


@pytest.mark.parametrize("scenario", flow_scenarios.ALL, ids=lambda scenario: scenario.__name__)
def test_on_veth(scenario: Callable[[Wire], None], wire: Wire) -> None:
    scenario(wire)


def test_counts_are_those_of_connection_tracking() -> None:
    need("nft")
    with veth_wire(4) as wire:
        accounts = wire.left.netns
        table = "add table ip t; add chain ip t c { type filter hook input priority 0; }; add rule ip t c ct state new"
        accounts.run(["nft", table], check=True)
        accounts.call(Path("/proc/sys/net/netfilter/nf_conntrack_acct").write_text, "1")
        with FlowMetrics(wire.pair) as metrics:
            ports = connect_and_send(wire.right, wire.left, flow_scenarios.AMOUNT)
            counted = {flow.side: flow for flow in metrics.snapshot() if flow.protocol == flow_scenarios.TCP}
        listed = accounts.call(Path("/proc/thread-self/net/nf_conntrack").read_text)
        (line,) = [line for line in listed.splitlines() if f"sport={ports[0]} dport={ports[1]}" in line]
        packets, octets = ([int(n) for n in re.findall(rf"{word}=(\d+)", line)] for word in ("packets", "bytes"))
        for side, skbs, length in zip((Side.PEER, Side.PRIMARY), packets, octets, strict=True):
            assert counted[side].skbs == skbs
            assert counted[side].bytes == length + skbs * flow_scenarios.ETHERNET


def test_pairs_are_told_apart() -> None:
    with quiet_pair() as first, veth_wire(6) as second, FlowMetrics(first, second.pair, slots=16) as metrics:
        with Sender(first) as send:
            send(100)
        counts = metrics.snapshot().by("pair", "protocol")
        assert counts["ve0", 17].packets == 100


def test_pairs_of_one_name_add_up() -> None:
    """They are in several namespaces: veth_wire() and quiet_pair() call theirs alike."""
    with quiet_pair() as first, quiet_pair() as second, FlowMetrics(first, second, slots=16) as metrics:
        for pair, count in ((first, 100), (second, 7)):
            with Sender(pair) as send:
                send(count)
        flows = metrics.snapshot()
        assert flows.pair_names == ("ve0", "ve0")
        assert {key: found.packets for key, found in flows.by("pair").items()} == {"ve0": 107}
        assert [found.packets for found in flows.by("pair", "side", "protocol", most=1).values()] == [107]


@pytest.mark.parametrize("sides", ["peer", ["peer"]])
def test_only_the_sides_that_are_asked_for_are_counted(sides: str | list[str]) -> None:
    with quiet_pair() as pair:
        with FlowMetrics(pair, sides=sides, slots=16) as metrics, Sender(pair) as send:
            send(5)
            assert len(metrics.snapshot()) == 0


def test_a_filter_says_what_is_counted() -> None:
    with quiet_pair() as pair:
        with FlowMetrics(pair, filter="udp src port 3", slots=16) as metrics, Sender(pair) as send:
            send(5)
            assert [flow.src_port for flow in metrics.snapshot()] == [3]


def test_after_close_nothing_is_attached_and_the_counts_stand() -> None:
    with quiet_pair() as pair, Sender(pair) as send:
        metrics = FlowMetrics(pair, slots=16)
        assert repr(metrics) == "<FlowMetrics of ve0 open>"
        send(50)
        metrics.close()
        metrics.close()
        assert pair.hook("primary").programs == ()
        send(50)
        assert metrics.snapshot().total.packets == 50
        assert repr(metrics) == "<FlowMetrics of ve0 closed>"
        with pytest.raises(ValueError, match="closed"):
            metrics.rates(0.1)
        with pytest.raises(ValueError, match="closed"), metrics:
            pass


@pytest.mark.parametrize("make", [FlowMetrics, Monitor])
def test_threads_take_no_signals_which_are_the_applications(make: type[FlowMetrics] | type[Monitor]) -> None:
    with quiet_pair() as pair, make(pair):
        blocked = {}
        for task in Path("/proc/self/task").iterdir():
            found = re.search(r"Name:\s+(netkit-.*)\n(?:.*\n)*SigBlk:\s+(\w+)", (task / "status").read_text())
            if found:
                blocked[found[1]] = int(found[2], 16)
        assert blocked
        for mask in blocked.values():
            assert all(mask >> (number - 1) & 1 for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM))


def test_metrics_that_are_dropped_are_closed_with_a_warning() -> None:
    with quiet_pair() as pair:
        metrics = FlowMetrics(pair, slots=16)
        assert len(pair.hook("primary").programs) == 1
        with pytest.warns(ResourceWarning, match=r"FlowMetrics of ve0, made at .*test_metrics_on_veth.py"):
            del metrics
        assert pair.hook("primary").programs == ()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"slots": 0}, ValueError),
        ({"slots": 1000}, ValueError),
        ({"slots": "many"}, TypeError),
        ({"slots": 1 << 25}, ValueError),
        ({"ring_size": 5000}, ValueError),
        ({"most_flows": 0}, ValueError),
        ({"sides": ["left"]}, ValueError),
        ({"sides": []}, ValueError),
        ({"filter": "no such word"}, ValueError),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_touched(
    arguments: dict[str, object], error: type[Exception]
) -> None:
    with quiet_pair() as pair:
        with pytest.raises(error):
            FlowMetrics(pair, **arguments)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="named twice"):
            FlowMetrics(pair, pair)
        with pytest.raises(TypeError, match=r"NetkitPair.open\(\) takes a name"):
            FlowMetrics("nk0")  # type: ignore[arg-type]
        assert pair.hook("primary").programs == ()


@pytest.mark.parametrize("interval", [0, -1, float("nan"), None, "1"])
def test_an_interval_is_a_number_of_seconds(interval: object) -> None:
    with quiet_pair() as pair, FlowMetrics(pair, slots=16) as metrics:
        with pytest.raises((ValueError, TypeError)):
            metrics.rates(interval)  # type: ignore[arg-type]


def test_what_is_counted_stays_when_the_devices_go() -> None:
    with veth_wire(6) as wire:
        flow_scenarios.LAST(wire)


def test_a_table_is_made_by_metrics_alone() -> None:
    with pytest.raises(TypeError, match="snapshot"):
        FlowTable()
