# SPDX-License-Identifier: MIT
"""Flow metrics for Prometheus: few labels, which do not grow with what is sent."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

from netkit_bpf.enums import Side
from netkit_bpf.events.event import Protocol
from netkit_bpf.flows.flow import protocol_word
from netkit_bpf.flows.reader import FlowReader
from netkit_bpf.flows.table import FlowCount, FlowTable, Network, parse_networks
from netkit_bpf.internal.arguments import expect, expect_in

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

Labels = tuple[str, ...]
_OTHER = "other"
_MOST_TOP = 100
_ENDS = ("pair", "side")
_COUNTED = {
    "packets": "packets on the wire: the segments of GSO one by one",
    "skbs": "packets as the hooks saw them, before segmentation",
    "bytes": "bytes of the packets that the hooks saw, with their Ethernet headers",
}
_NAMED = set(Protocol)


class FlowCollector:
    """What a `FlowMetrics` counts, for Prometheus: a collector of prometheus_client, which writes it and serves it.

    Counters are by pair, side, protocol and the networks of both ends, of which those that are named have names and all
    others are "other". The addresses that have sent most until now, by the flows that are told apart, are counted one
    by one, and all others together. Ports are in no label. A scrape costs one snapshot.

    Counters never go back. An address that comes into the top begins with what it sent since the last scrape: what it
    sent before stays in "other", which never shrinks. One that drops out has no sample any more, and begins anew if it
    comes back. So the rate of one is right for as long as it stays in the top, and the sum of all is less than what was
    sent, by what was counted of those that dropped out: the counters by network have all of it.

    Any thread may use it. It leaves the metrics open.

    Args:
        metrics: what counts.
        networks: the networks that have names of their own: the longest one that an address is in counts.
        top: how many addresses are counted one by one.

    Raises:
        ValueError: a network is none, has host bits set or is named twice.

    >>> prometheus_client.REGISTRY.register(FlowCollector(metrics, networks=["10.0.0.0/8"]))  # doctest: +SKIP
    """

    def __init__(self, metrics: FlowReader, *, networks: Iterable[str | Network] = (), top: int = 10) -> None:
        self._metrics = expect(metrics, FlowReader, "metrics")
        self._networks = parse_networks(networks)
        self._top = expect_in(top, range(_MOST_TOP + 1), "top")
        self._lock = threading.Lock()
        self._seen: FlowTable | None = None
        self._by_network: dict[Labels, FlowCount] = {}
        self._by_address: dict[Labels, FlowCount] = {}

    def collect(self) -> list[Metric]:
        """Count until now: what prometheus_client asks a collector for.

        Raises:
            ImportError: prometheus_client is not installed.
        """
        with self._lock:
            table = self._metrics.snapshot()
            if self._top:
                self._choose(table)
            self._add(table if self._seen is None else table.since(self._seen))
            self._seen = table
            return self._metrics_of(table)

    def describe(self) -> list[Metric]:
        """Nothing: so that registering it costs no snapshot."""
        return []

    def _add(self, moved: FlowTable) -> None:
        """Add what came since the last time."""
        for (pair, side, protocol, src, dst), count in self._by_networks(moved).items():
            networks = (str(pair), str(side), _protocol_label(protocol), str(src or _OTHER), str(dst or _OTHER))
            _add_to(self._by_network, networks, count)
        for (pair, side, address), count in self._by_followed(moved).items():
            labels = (str(pair), str(side), str(address.network_address) if address is not None else _OTHER)
            _add_to(self._by_address, labels if labels in self._by_address else (*labels[:-1], _OTHER), count)

    def _by_networks(self, moved: FlowTable) -> dict[Any, FlowCount]:
        if self._networks:
            return moved.by(*_ENDS, "protocol", "src", "dst", networks=self._networks)
        return {(*key, None, None): count for key, count in moved.by(*_ENDS, "protocol").items()}

    def _by_followed(self, moved: FlowTable) -> dict[Any, FlowCount]:
        followed = {ip_network(labels[-1]) for labels in self._by_address if labels[-1] != _OTHER}
        if followed:
            return moved.by(*_ENDS, "src", networks=followed)
        return {(*key, None): count for key, count in moved.by(*_ENDS).items()}

    def _choose(self, table: FlowTable) -> None:
        """Follow from now on the addresses that have sent most in all."""
        most = self._top + len(table.pair_names) * len(Side)  # of each pair and side, some may have no address
        sums = table.by(*_ENDS, "src", most=most)
        first = [(str(pair), str(side), str(address)) for pair, side, address in sums if address is not None]
        chosen = first[: self._top]
        for labels in [each for each in self._by_address if each[-1] != _OTHER and each not in chosen]:
            del self._by_address[labels]
        for labels in chosen:
            self._by_address.setdefault(labels, FlowCount(0, 0, 0, 0))

    def _metrics_of(self, table: FlowTable) -> list[Metric]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        metrics: list[Metric] = []
        for prefix, sums, of, labels in (
            ("netkit_flow", self._by_network, "Counted", (*_ENDS, "protocol", "src_network", "dst_network")),
            ("netkit_top_source", self._by_address, "Of the addresses that have sent most:", (*_ENDS, "src")),
        ):
            for field, what in _COUNTED.items():
                counter = CounterMetricFamily(f"{prefix}_{field}", f"{of} {what}.", labels=labels)
                for values, count in sorted(sums.items()):
                    counter.add_metric(values, getattr(count, field))
                metrics.append(counter)
        gauge = GaugeMetricFamily("netkit_flows", "Flows that are told apart.", labels=_ENDS)
        for ends, number in sorted(_flows(table).items()):
            gauge.add_metric(ends, number)
        return [*metrics, gauge]


def _add_to(sums: dict[Labels, FlowCount], labels: Labels, count: FlowCount) -> None:
    before = sums.get(labels, FlowCount(0, 0, 0, 0))
    sums[labels] = FlowCount(*(one + other for one, other in zip(before, count, strict=True)))


def _flows(table: FlowTable) -> dict[Labels, int]:
    """How many flows are told apart, by pair and side."""
    flows: dict[Labels, int] = {}
    for (pair, side, ethertype), count in table.by(*_ENDS, "ethertype").items():
        if ethertype is not None:
            flows[str(pair), str(side)] = flows.get((str(pair), str(side)), 0) + count.flows
    return flows


def _protocol_label(protocol: int | None) -> str:
    """A protocol that has a name; the others together, for whoever sends can choose among 256."""
    return protocol_word(protocol) if protocol in _NAMED else _OTHER
