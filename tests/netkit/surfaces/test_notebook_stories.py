"""What the notebooks tell is what happened: the results in their variables after all cells ran."""

from __future__ import annotations

from typing import Any

import pytest

from notebook_runs import ROOT, executed, runs_of


def results(stem: str, number: int) -> dict[str, Any]:
    """The variables that NAMES asks of a notebook, after a run."""
    names: dict[str, Any] = executed(ROOT / "notebooks" / f"{stem}.ipynb").probes[number]["names"]
    return names


def each_run(stem: str) -> pytest.MarkDecorator:
    """Run the test for each run of a notebook."""
    return pytest.mark.parametrize(("stem", "number"), [(stem, number) for number in range(runs_of(stem))])


@each_run("02-namespaces-and-blackhole")
def test_a_blackhole_drops_what_is_sent_into_it_and_nothing_else(stem: str, number: int) -> None:
    told = results(stem, number)
    assert told["routes"] == ["fd00::/64", "default via fd00::1"]
    assert told["arrived"] == [*range(20), *range(40, 60)]
    assert told["dropped"] == 20
    assert told["watched"] == [5, 0]
    assert told["through"] == [*range(5)]
    assert told["after"] == [5, 0]
    assert told["counters"][1:] == [5, 5]


@each_run("03-your-own-program")
def test_a_program_drops_its_port_and_is_replaced_without_a_gap(stem: str, number: int) -> None:
    told = results(stem, number)
    assert told["before"] == {"12345": 10, "12346": 10}
    assert told["after"] == {"12345": 0, "12346": 10}
    assert told["counted"] == {"0": 10, "1": 10}
    assert told["verdicts"] == {"12345": "drop", "12346": "next"}
    assert told["refused"] == [7, 9]
    assert told["swap"] == [True, True, True]
    assert told["sent"] > 100
    assert told["arrived"] == [*range(told["sent"])]


@each_run("04-what-traffic-looks-like")
def test_each_kind_of_traffic_has_its_shape(stem: str, number: int) -> None:
    told = results(stem, number)
    summary = told["summary"]
    for side in ("peer", "primary"):
        assert summary[f"ping {side}"] == {
            "kind": "ping",
            "side": side,
            "events": 20,
            "packets": 20,
            "bytes": 20 * 118,
            "longest": 118,
        }
        assert summary[f"questions {side}"]["events"] >= 22
    bulk = summary["bulk primary"]
    assert bulk["bytes"] > 2_000_000
    assert bulk["packets"] >= 2_000_000 // 1428
    assert bulk["events"] < bulk["packets"]
    assert summary["bulk peer"]["longest"] < 1514
    assert [step[:2] for step in told["handshake"][:3]] == [["peer", "SYN"], ["primary", "SYN|ACK"], ["peer", "ACK"]]
    assert len(told["waits"]) == 20
    assert min(told["waits"]) > 0
    assert told["lost"] == 0


@each_run("05-a-firewall")
def test_rules_let_in_whom_they_name_and_a_set_is_replaced_in_one_instant(stem: str, number: int) -> None:
    told = results(stem, number)
    assert told["answers"] == {
        "office 22": "open",
        "office 80": "open",
        "office 5432": "silence",
        "guest 22": "silence",
        "guest 80": "open",
        "guest 5432": "silence",
    }
    pages, ssh = told["counters"][1:]
    assert pages >= 2  # more if a machine was slow to answer
    assert ssh >= 1
    assert [each.partition(":")[0] for each in told["explained"]] == ["drop", "next", "next"]
    assert told["arrived"] == {"office": [*range(20)], "guest": [*range(20, 40)]}
    assert told["open_again"] == "open"


@each_run("06-load-balancing")
def test_connections_are_spread_by_weight_and_stay_while_a_backend_drains(stem: str, number: int) -> None:
    told = results(stem, number)
    assert told["first"] == 1
    assert sum(told["spread"].values()) == sum(told["fresh"].values()) == 400
    assert abs(told["spread"]["web1"] - 200) < 6 * 10  # six standard deviations
    assert abs(told["spread"]["web2"] - 100) < 6 * 8.7
    assert told["moved"] == 0
    assert "web1" not in told["fresh"]
    assert max(told["maglev"]) < 0.05
    assert min(told["modulo"]) > 0.8


@each_run("07-netkit-against-veth")
def test_both_cables_carry_the_same_traffic(stem: str, number: int) -> None:
    told = results(stem, number)
    assert told["latency"] == {"netkit": 600, "veth": 600}
    assert told["speed"] == {"netkit": 10, "veth": 10}
    assert all(value > 0 for values in told["medians"].values() for value in values)
    for ratio, low, high in told["ratios"].values():
        assert 0 < low <= high
        assert low * 0.9 <= ratio <= high * 1.1
    assert told["left"] == ["lo"]
