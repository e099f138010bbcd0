# SPDX-License-Identifier: MIT
"""What a table of flows says, in every form, and what becomes of it in Prometheus and in a terminal."""

from __future__ import annotations

import itertools
import pickle
import re
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from typing import Any

import numpy
import pandas
import polars
import pyarrow
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from counting import Counting
from netkit_bpf import FlowCollector, FlowCount, FlowTable, Side
from netkit_bpf.command.live.lines import lines_of, short
from packets import ethernet, ipv4, ipv6, tcp, udp


def from_source(last: int, payload: bytes = b"") -> bytes:
    """A datagram over IPv4, from 10.0.LAST.LAST."""
    frame = ipv4(17, udp() + payload)
    return frame[:26] + bytes([10, 0, last, last]) + frame[30:]


@pytest.fixture(scope="module", autouse=True)
def libraries() -> None:
    """Have these libraries start the threads that they keep."""
    frame = polars.DataFrame({"a": [1]})
    polars.concat([frame] * 2).group_by("a").len()
    pyarrow.set_cpu_count(1)
    pyarrow.record_batch([pyarrow.array(["a"])], names=["a"]).to_pandas()


@pytest.fixture
def counting() -> Iterator[Counting]:
    with Counting() as made:
        yield made


@pytest.fixture
def table(counting: Counting) -> FlowTable:
    counting.send(ipv6(6, tcp()), Side.PEER, count=3)
    counting.send(ipv6(17, udp()), count=2)
    counting.send(from_source(1))
    counting.send(from_source(2))
    counting.send(ethernet(0x88CC, bytes(50)))
    return counting.snapshot()


def test_every_form_says_the_same(table: FlowTable) -> None:
    array = numpy.asarray(table)
    arrow = pyarrow.record_batch(table)
    assert polars.DataFrame(table).height == len(table) == len(array) == arrow.num_rows == 5
    assert table.to_pandas()["bytes"].sum() == pandas.DataFrame.from_arrow(table)["bytes"].sum() == table.total.bytes
    assert list(array.dtype.names or ()) == [*table[0]._fields, "flags"]
    assert arrow.schema.names == list(table[0]._fields)
    for flow, row, columns in zip(table, array, arrow.to_pylist(), strict=True):
        for name, value in flow._asdict().items():
            applies = name not in FlowTable.FLAGS or bool(row["flags"] & FlowTable.FLAGS[name])
            assert (value is not None) == applies == (columns[name] is not None), name
            if value is None:
                continue
            if name in ("src", "dst"):
                assert ip_address(columns[name]) == value
                assert row[name].ljust(16, b"\0")[: 4 if flow.family == 4 else 16] == value.packed
            elif name.endswith("_ns") and name != "handshake_ns":
                assert columns[name].value == row[name] == value
            elif name not in ("pair_name", "side"):
                assert columns[name] == row[name] == value
            else:
                assert columns[name] == value
    assert not array.flags.writeable
    assert numpy.asarray(table, dtype=array.dtype) is not None


def test_a_table_is_a_sequence(table: FlowTable) -> None:
    flows = list(table)
    assert [table[0], table[-1]] == [flows[0], flows[-1]]
    assert list(table[1:]) == flows[1:]
    assert list(table[::-2]) == flows[::-2]
    assert list(table["bytes"]) == [flow.bytes for flow in flows]
    assert list(pickle.loads(pickle.dumps(table))) == flows
    with pytest.raises(IndexError):
        table[5]
    with pytest.raises(KeyError):
        table["colour"]
    assert list(table.top(2, "packets")) == sorted(flows, key=lambda flow: -flow.packets)[:2]
    assert len(table.top(100)) == 5
    for arguments in ((-1,), (1, "colour")):
        with pytest.raises(ValueError, match="must be"):
            table.top(*arguments)


KEYS = ["pair", "side", "ethertype", "family", "src", "dst", "protocol", "src_port", "dst_port", "icmp_type"]


def test_a_port_that_does_not_apply_is_missing_in_a_data_frame_and_no_fraction_elsewhere(table: FlowTable) -> None:
    frame = table.to_pandas()
    assert str(frame["dst_port"].dtype) == "UInt16"
    assert frame["dst_port"].isna().sum() == 1
    assert str(frame["bytes"].dtype) == "UInt64"
    with pytest.raises(KeyError, match="no column 'port': there are pair_name, side"):
        table["port"]
    with pytest.raises(ValueError, match="this FlowTable cannot be an array of float64 without a copy"):
        table.__array__(numpy.dtype("f8"), copy=False)


def test_rows_are_found_by_the_flows_of_another_table(counting: Counting, table: FlowTable) -> None:
    few = table.top(3)[::-1]
    counting.send(ipv6(6, tcp()), Side.PEER, count=4)
    counting.send(from_source(3))
    later = counting.snapshot()
    found = later.matching(few)
    assert [flow[:11] for flow in found] == [flow[:11] for flow in few]
    assert found.total.skbs == few.total.skbs + 4  # as they are in the later one
    assert len(table.matching(later)) == len(table) == len(later) - 1
    assert len(later.matching(table[:0])) == 0
    with pytest.raises(TypeError, match="other must be a FlowTable"):
        table.matching([])  # type: ignore[arg-type]


def test_groups_add_up_what_the_flows_say(table: FlowTable) -> None:
    for size in (1, 2, 3):
        for keys in itertools.combinations(KEYS, size):
            check_groups(table, keys)


def test_icmp_types_add_up_whatever_their_codes(counting: Counting) -> None:
    for kind, code, count in ((3, 1, 2), (3, 3, 1), (8, 0, 4)):
        counting.send(ipv4(1, bytes([kind, code]) + bytes(6)), count=count)
    table = counting.snapshot()
    assert {kind: found.packets for kind, found in table.by("icmp_type").items()} == {3: 3, 8: 4}
    check_groups(table, ("icmp_type", "protocol"))


def check_groups(table: FlowTable, keys: tuple[str, ...]) -> None:
    expected: dict[Any, FlowCount] = {}
    for flow in table:
        values = tuple(getattr(flow, "pair_name" if key == "pair" else key) for key in keys)
        group = values[0] if len(keys) == 1 else values
        before = expected.get(group, FlowCount(0, 0, 0, 0))
        counted = (flow.flows, flow.packets, flow.skbs, flow.bytes)
        expected[group] = FlowCount(*(one + other for one, other in zip(before, counted, strict=True)))
    found = table.by(*keys)
    assert found == expected
    assert [count.bytes for count in found.values()] == sorted((c.bytes for c in expected.values()), reverse=True)


def test_addresses_are_grouped_by_prefixes_and_by_networks(table: FlowTable) -> None:
    assert {*table.by("src/16")} == {ip_network("10.0.0.0/16"), ip_network("2001::/16"), None}
    assert {*table.by("src/24/0")} == {ip_network("10.0.1.0/24"), ip_network("10.0.2.0/24"), ip_network("::/0"), None}
    assert {*table.by("src/64")} == {
        ip_network("10.0.1.1/32"),
        ip_network("10.0.2.2/32"),
        ip_network("2001:db8::/64"),
        None,
    }
    networks = ["10.0.0.0/8", "10.0.2.0/24", "::/0", "192.0.2.0/24"]
    found = table.by("src", networks=networks)
    assert {network: count.packets for network, count in found.items()} == {
        ip_network("10.0.0.0/8"): 1,
        ip_network("10.0.2.0/24"): 1,
        ip_network("::/0"): 5,
        None: 1,
    }
    assert len(table.by("src", most=1)) == 1


@pytest.mark.parametrize(
    ("keys", "options", "error"),
    [
        ((), {}, ValueError),
        (("colour",), {}, ValueError),
        (("src", "src/24"), {}, ValueError),
        (("src/129",), {}, ValueError),
        (("src/33/64",), {}, ValueError),
        (("src/-1",), {}, ValueError),
        ((1,), {}, TypeError),
        (("src",), {"networks": ["10.0.0.1/8"]}, ValueError),
        (("src",), {"networks": ["10.0.0.0/8", "10.0.0.0/8"]}, ValueError),
        (("src",), {"networks": "10.0.0.0/8"}, TypeError),
        (("src/8",), {"networks": ["10.0.0.0/8"]}, ValueError),
        (("src",), {"most": 0}, ValueError),
    ],
)
def test_what_cannot_be_grouped_by_is_refused(
    table: FlowTable, keys: tuple[Any, ...], options: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        table.by(*keys, **options)


def samples(text: str) -> dict[tuple[str, tuple[str, ...]], float]:
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_prometheus_reads_counters_that_never_go_back_and_know_no_ports(counting: Counting) -> None:
    registry = CollectorRegistry()
    registry.register(FlowCollector(counting.reader, networks=["10.0.1.0/24", "10.0.0.0/8"], top=2))
    before: dict[tuple[str, tuple[str, ...]], float] = {}
    sent = 0
    for turn in range(1, 8):  # each time another address sends most
        for last in range(turn, turn + 3):
            counting.send(from_source(last), count=last * turn)
            sent += last * turn
        text = generate_latest(registry).decode()
        assert "port" not in text
        now = samples(text)
        for name in ("netkit_flow_packets_total", "netkit_flow_skbs_total"):
            assert sum(value for (each, _), value in now.items() if each == name) == sent
        for key in {*before} & {*now}:
            assert before[key] <= now[key] or key[0] == "netkit_flows", key
        top = {labels[-1] for name, labels in now if name == "netkit_top_source_bytes_total"}
        assert len(top - {"other"}) == 2
        before = now
    assert {labels[-1] for name, labels in before if name == "netkit_flow_bytes_total"} == {"10.0.1.0/24", "10.0.0.0/8"}
    assert registry.get_sample_value("netkit_flows", {"pair": "nk0", "side": "primary"}) == len(counting.snapshot())


def shown(registry: CollectorRegistry) -> dict[str, float]:
    """How many packets are counted of which addresses."""
    found = samples(generate_latest(registry).decode())
    return {labels[-1]: value for (name, labels), value in found.items() if name == "netkit_top_source_packets_total"}


def test_of_newcomers_those_that_send_most_are_followed(counting: Counting) -> None:
    registry = CollectorRegistry()
    registry.register(FlowCollector(counting.reader, top=2))
    counting.send(ethernet(0x88CC, bytes(50)), count=1000)  # of no address, which takes no place
    counting.send(from_source(1), count=10)
    counting.send(from_source(2), count=5)
    assert shown(registry) == {"other": 1000, "10.0.1.1": 10, "10.0.2.2": 5}
    counting.send(from_source(3), count=20)
    counting.send(from_source(4), count=6)
    assert shown(registry) == {"other": 1006, "10.0.1.1": 10, "10.0.3.3": 20}


def test_an_address_that_sends_little_at_a_time_is_followed_once_it_has_sent_most(counting: Counting) -> None:
    registry = CollectorRegistry()
    registry.register(FlowCollector(counting.reader, top=1))
    counting.send(from_source(1), count=20)
    assert shown(registry) == {"10.0.1.1": 20}
    seen = []
    for _ in range(4):
        counting.send(from_source(2), count=9)
        seen.append(shown(registry))
    assert seen == [
        {"10.0.1.1": 20, "other": 9},
        {"10.0.1.1": 20, "other": 18},
        {"10.0.2.2": 9, "other": 18},  # what it had sent before stays among the others
        {"10.0.2.2": 18, "other": 18},
    ]


@pytest.mark.parametrize("width", [20, 40, 56, 72, 80, 120, 300])
@pytest.mark.parametrize("height", [1, 2, 4, 50])
def test_lines_fit_the_terminal(counting: Counting, table: FlowTable, width: int, height: int) -> None:
    moved = table.since(table[:0])
    lines = lines_of(moved, table, "bytes", width, height)
    assert all(len(line) <= width for line in lines)
    assert len(lines) == min(max(height, 2), 2 + len(table))
    if height == 50 and width >= 40:
        assert sum("ethertype" in line for line in lines) == 1
        assert re.search(r"tcp .*443", "\n".join(lines))


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (0.5, "0.5"),
        (7, "7"),
        (999, "999"),
        (999.7, "1.0k"),
        (1000, "1.0k"),
        (12_345, "12.3k"),
        (99_960, "100k"),
        (999_600, "1.0M"),
        (3e18, "3.0E"),
    ],
)
def test_numbers_are_short(number: float, text: str) -> None:
    assert short(number) == text
    assert len(text) <= 5
