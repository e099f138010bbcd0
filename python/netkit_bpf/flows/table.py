# SPDX-License-Identifier: MIT
"""Tables of flows."""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, overload

from netkit_bpf._core import FlowTable as CoreFlowTable
from netkit_bpf._core import flow_dtype, flow_flags
from netkit_bpf.events.columns import Columns
from netkit_bpf.flows.flow import Flow, flow_of
from netkit_bpf.internal.arguments import expect, expect_in

if TYPE_CHECKING:
    import numpy

_WORDS = {"pair": "pair_name"} | {
    name: name
    for name in (
        *("side", "ethertype", "family", "src", "dst", "protocol"),
        *("src_port", "dst_port", "icmp_type"),
    )
}
_SORTED_BY = ("flows", "packets", "skbs", "bytes", "first_ns", "last_ns", "handshake_ns")
_PREFIX = re.compile(r"(src|dst)/(\d{1,3})(?:/(\d{1,3}))?", re.ASCII)
_SHOWN = 10  # flows in a notebook
_LONGEST = (32, 128)
_COLUMN = {name: number for number, name in enumerate(Flow._fields)}
Network = IPv4Network | IPv6Network


class FlowCount(NamedTuple):
    """What was counted of several flows together.

    Attributes:
        flows: how many flows.
        packets: how many packets on the wire: the segments of GSO one by one.
        skbs: how many packets as the hook sees them, before segmentation.
        bytes: how long these were together, with their Ethernet headers.
    """

    flows: int
    packets: int
    skbs: int
    bytes: int


class FlowTable(Columns):
    """Flows as a table: a sequence of `Flow`s, and an array or a data frame without a loop.

    Immutable; any thread may use it. `FlowMetrics.snapshot` and `FlowMetrics.rates` make them.

    An index gives a `Flow`, a slice a table, and a field's name its column: `table["bytes"].sum()`. The rows are in no
    order: `top` sorts them. Rows of which only `pair_name` and `side` are known count flows that are not told apart any
    more, so that sums are of all packets.

    **numpy.** `numpy.asarray(table)` is a read-only structured array over the same memory, with the fields of `Flow`
    and these differences: `pair_name` is an index into `table.pair_names`; `side` is 0 for primary and 1 for peer;
    `src` and `dst` are bytes (S16). A field that does not apply is 0; `array["flags"] & FlowTable.FLAGS["src_port"]
    != 0` tells where it applies.

    **Arrow.** `pyarrow.record_batch(table)`, `polars.DataFrame(table)`, `pandas.DataFrame.from_arrow(table)` and
    DuckDB's `FROM table` take it as it is, through the Arrow PyCapsule interface. Columns have the same names and are
    null where a field does not apply; times are timestamp[ns, UTC]; addresses are strings.

    >>> table = metrics.snapshot()  # doctest: +SKIP
    >>> for network, count in table.by("src/24/64").items():  # doctest: +SKIP
    ...     print(network, count.bytes)

    Attributes:
        FLAGS: by the name of each field that does not always apply, the bit of `flags` that is set where it does.

    Source: https://arrow.apache.org/docs/format/CDataInterface/PyCapsuleInterface.html
    """

    FLAGS: ClassVar[Mapping[str, int]] = MappingProxyType(flow_flags())

    __slots__ = ("_rows", "_seconds")
    _rows: CoreFlowTable
    _seconds: float

    def __new__(cls) -> FlowTable:
        """Refuse: tables come from what counts."""
        raise TypeError("cannot create FlowTable: FlowMetrics.snapshot() makes them")

    @classmethod
    def _of(cls, rows: CoreFlowTable, seconds: float) -> FlowTable:
        self = super().__new__(cls)
        self._rows = rows
        self._seconds = seconds
        return self

    @property
    def pair_names(self) -> tuple[str, ...]:
        """The names of the pairs that the table may have flows of."""
        return self._rows.names

    @property
    def seconds(self) -> float:
        """For how long it was counted: a rate is a count divided by this."""
        return self._seconds

    @property
    def total(self) -> FlowCount:
        """All rows together."""
        return _count(flow_of(self._rows.total()))

    def by(self, *keys: str, networks: Iterable[str | Network] = (), most: int | None = None) -> dict[Any, FlowCount]:
        """Add up the flows that have something in common; what has the most bytes comes first.

        Args:
            keys: "pair", "side", "family", "protocol", "ethertype", "src", "dst", "src_port", "dst_port" or
                "icmp_type"; "src/24" and "dst/24" are networks of so many bits, of an address of IPv4 32 at most;
                "src/24/64" says those of IPv4 and those of IPv6. Pairs of one name, in several namespaces, are one
                "pair"; an "icmp_type" is one with any code.
            networks: "src" and "dst" are the longest of these that the address is in, or None.
            most: only so many, those with the most bytes.

        Returns:
            By the key's value, or by the tuple of values if there are several keys. A value is None where it does not
            apply.

        Raises:
            ValueError: there is no such key, none is given, or an address is named twice; a network has host bits set.

        >>> metrics.snapshot().by("protocol", "dst/24/64")  # doctest: +SKIP
        """
        if not keys:
            raise ValueError(f"by() takes one key or more, of {', '.join(_WORDS)}")
        if most is not None and expect(most, int, "most") < 1:
            raise ValueError(f"most must be at least 1, not {most}")
        longest = parse_networks(networks)
        names, bits, is_network = [], {"src": _LONGEST, "dst": _LONGEST}, {}
        for key in keys:
            name, prefix = _parse_key(key)
            if name in names:
                raise ValueError(f"by() takes {name!r} once")
            if longest and prefix is not None:
                raise ValueError(f"by() takes networks or {key!r}")
            names.append(name)
            is_network[name] = prefix is not None
            if prefix is not None:
                bits[name] = prefix
        packed = [(network.network_address.packed, network.prefixlen) for network in longest]
        groups = self._rows.by(names, bits["src"], bits["dst"], packed)
        groups = groups.top(len(groups) if most is None else min(most, len(groups)), "bytes")
        counts: dict[Any, FlowCount] = {}
        for number in range(len(groups)):
            row = groups.row(number)
            flow = flow_of(row)
            values = []
            for name in names:
                value = getattr(flow, name)
                if value is not None and name in bits:
                    if longest:  # their number stands in the place of an address
                        value = longest[int.from_bytes(row[_COLUMN[name]][:4], "little")]
                    elif is_network[name]:
                        value = ip_network((value, bits[name][flow.family == 6]))
                values.append(value)
            counts[values[0] if len(keys) == 1 else tuple(values)] = _count(flow)
        return counts

    def top(self, count: int, by: str = "bytes") -> FlowTable:
        """Return the rows with the most of a field, the most first; of equals in the order of this table.

        Args:
            count: how many rows at most.
            by: "bytes", "packets", "skbs", "flows", "first_ns", "last_ns" or "handshake_ns".
        """
        if by not in _SORTED_BY:
            raise ValueError(f"by must be one of {', '.join(_SORTED_BY)}, not {by!r}")
        if expect(count, int, "count") < 0:
            raise ValueError(f"count must be 0 or more, not {count}")
        return self._of(self._rows.top(min(count, len(self)), by), self._seconds)

    def matching(self, other: FlowTable) -> FlowTable:
        """Return the rows of those flows that another table of the same metrics has, in its order.

        >>> table.matching(moved.top(10))  # what the ten that moved most have sent in all  # doctest: +SKIP
        """
        theirs = expect(other, FlowTable, "other")
        if theirs.pair_names != self.pair_names:
            raise ValueError(f"other is of other pairs, {theirs.pair_names}, not {self.pair_names}")
        return self._of(self._rows.matching(theirs._rows), self._seconds)

    def since(self, earlier: FlowTable) -> FlowTable:
        """Return what was counted after an earlier table of the same metrics: rows with what came to each flow.

        Its `seconds` are those between the two.

        >>> later.since(earlier).total.bytes / later.since(earlier).seconds  # doctest: +SKIP
        """
        before = expect(earlier, FlowTable, "earlier")
        if before.pair_names != self.pair_names:
            raise ValueError(f"earlier is of other pairs, {before.pair_names}, not {self.pair_names}")
        return self._of(self._rows.since(before._rows), self._seconds - before._seconds)

    def __iter__(self) -> Iterator[Flow]:
        return (flow_of(self._rows.row(number)) for number in range(len(self)))

    @overload
    def __getitem__(self, index: int) -> Flow: ...

    @overload
    def __getitem__(self, index: str) -> numpy.ndarray[Any, Any]: ...

    @overload
    def __getitem__(self, index: slice) -> FlowTable: ...

    def __getitem__(self, index: int | str | slice) -> Flow | numpy.ndarray[Any, Any] | FlowTable:
        if isinstance(index, str):
            return self._column(index)
        if isinstance(index, slice):
            rows = range(len(self))[index]
            return self._of(self._rows.slice(max(rows.start, 0), rows.step, len(rows)), self._seconds)
        number = operator.index(index)
        if not -len(self) <= number < len(self):
            raise IndexError(f"no flow {number} in a table of {len(self)}")
        return flow_of(self._rows.row(number % len(self)))

    @staticmethod
    def _layout() -> dict[str, Any]:
        return flow_dtype()

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (bytes(self._rows), self.pair_names, self._seconds)

    def _repr_html_(self) -> str | None:
        from netkit_bpf.internal.html import Part, Table, show

        def build() -> list[object]:
            top = self.top(_SHOWN)
            most = max([1, *(flow.bytes for flow in top)])
            rows = [(str(flow).rpartition(": ")[0], flow.packets, flow.bytes, Part(flow.bytes / most)) for flow in top]
            header = ("flow", "packets", "bytes", "part")
            return [Table(header, rows, left_out=len(self) - len(top))] if rows else []

        return show(self, build)

    def __repr__(self) -> str:
        if not self:
            return "<FlowTable 0 flows>"
        total = self.total
        ways = 'table.by("protocol"), table["bytes"], numpy.asarray(table), table.to_pandas()'
        return f"<FlowTable {total.flows} flows, {total.packets} packets, {total.bytes} bytes: {ways}>"


def parse_networks(networks: Iterable[str | Network]) -> list[Network]:
    """The networks, the longest first; TypeError or ValueError if one is none or named twice."""
    if isinstance(networks, (str, bytes)):
        raise TypeError('networks must be several, as ["10.0.0.0/8"], not one')
    parsed: list[Network] = []
    for each in networks:
        network = each if isinstance(each, (IPv4Network, IPv6Network)) else ip_network(expect(each, str, "a network"))
        if network in parsed:
            raise ValueError(f"network {network} is named twice")
        parsed.append(network)
    return sorted(parsed, key=lambda network: -network.prefixlen)


def _parse_key(key: str) -> tuple[str, tuple[int, int] | None]:
    """The field of a key, and how many bits of an address."""
    if found := _PREFIX.fullmatch(expect(key, str, "by()'s key")):
        first = expect_in(int(found[2]), range(_LONGEST[1] + 1), f"the prefix of {key!r}")
        if found[3] is None:
            return found[1], (min(first, _LONGEST[0]), first)
        expect_in(first, range(_LONGEST[0] + 1), f"the prefix of IPv4 in {key!r}")
        return found[1], (first, expect_in(int(found[3]), range(_LONGEST[1] + 1), f"the prefix of IPv6 in {key!r}"))
    if key not in _WORDS:
        raise ValueError(f"by() takes {', '.join(_WORDS)}, src/BITS and dst/BITS, not {key!r}")
    return _WORDS[key], None


def _count(flow: Flow) -> FlowCount:
    return FlowCount(flow.flows, flow.packets, flow.skbs, flow.bytes)


def _rebuild(rows: bytes, pair_names: tuple[str, ...], seconds: float) -> FlowTable:
    """Undo FlowTable.__reduce__."""
    return FlowTable._of(CoreFlowTable.from_rows(rows, list(pair_names)), seconds)
