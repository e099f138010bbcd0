# SPDX-License-Identifier: MIT
"""Flow metrics: what each flow of a pair sends, counted in the kernel (bpf/metrics.bpf.c)."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence

from netkit_bpf.bpf.object import BPFObject
from netkit_bpf.bpf.program import Program
from netkit_bpf.bpf.shipped import program_file
from netkit_bpf.devices.pair import NetkitPair
from netkit_bpf.enums import Side
from netkit_bpf.flows.reader import FlowReader
from netkit_bpf.flows.table import FlowTable
from netkit_bpf.functions.cpu_rings import possible_cpus
from netkit_bpf.functions.pairs import expect_pairs
from netkit_bpf.internal.arguments import (
    expect_in,
    expect_interval,
    expect_power_of_two,
    expect_sides,
    expect_timeout,
)
from netkit_bpf.observer.filter import Filter
from netkit_bpf.observer.observer import Observer

_MIB = 1 << 20
_LARGEST_RING = 1 << 30
_MOST_SLOTS = 1 << 24
_MOST_PAIRS = 1 << 16
_MOST_FLOWS = 1 << 31
_LEAST_RING = 4096
_SHOWN = 8  # flows in a live view
_LOOK_EVERY = 256
_SHARED = ("flow_sets", "evicted", "unattributed", "handshakes")
_LONGEST_SLEEP = 0.1  # a signal that another thread was given ends no sleep
_SEEDS = 5  # one for each word of a flow's key


class FlowMetrics(FlowReader):
    """Counts what each flow on the hooks of one or more netkit pairs sends, and alters no packet.

    A flow is what one side sends from one address and port to another with one protocol; ICMP's messages of each type
    and code and what is not IP are flows too. It is attached from its construction until `close`, before the other
    programs of the hooks. A side whose policy is blackhole stays one.

    Each CPU counts in a table of its own with room for `slots` flows, in memory that does not grow: 96 bytes a slot and
    CPU. When a flow comes that has no room there, the one in its place that was seen longest ago is handed to this
    process, which adds it up. So sums are of every packet, however many flows there are: what this process has no
    room for, or gets too late, is counted by pair and side.

    Any thread may use it. A forked child can neither use the metrics nor harm them.

    Args:
        pair: the pair whose flows are counted.
        pairs: more pairs.
        sides: which hooks: "primary", "peer" or both.
        filter: a pcap-filter(7) expression, or a `Filter` made of one: only what matches is counted.
        slots: flows that each CPU's table has room for: a power of two, 4 to 16777216.
        most_flows: flows that this process remembers beside those, some 150 bytes each as they come. When there are
            more, those that were seen longest ago are no longer told apart.
        ring_size: bytes of the ring buffer for flows that make room: a power of two, 4096 to 1 GiB. A flow takes
            112 bytes.

    Raises:
        ValueError: an argument is not possible, whatever the kernel; of a filter, in libpcap's words.
        FileNotFoundError: a filter needs libpcap, and there is none.
        PermissionError: CAP_BPF or CAP_NET_ADMIN is missing.
        OSError: ENODEV, a pair is gone; ENOMEM, the kernel has no room for the tables. Nothing is attached then.

    >>> with FlowMetrics(pair) as metrics:  # doctest: +SKIP
    ...     ...
    ...     for flow in metrics.snapshot().top(10):
    ...         print(flow)  # [peer] tcp 10.0.0.2:40000 -> 10.0.0.1:443: 12 packets 3400 bytes
    """

    def __init__(
        self,
        pair: NetkitPair,
        *pairs: NetkitPair,
        sides: Sequence[Side | str] = (Side.PRIMARY, Side.PEER),
        filter: str | Filter | None = None,  # noqa: A002 - tcpdump's and libpcap's word
        slots: int = 65536,
        most_flows: int = 1_000_000,
        ring_size: int = 4 * _MIB,
    ) -> None:
        counted = expect_sides(sides)
        expect_power_of_two(slots, FlowReader.WAYS, _MOST_SLOTS, "slots")
        expect_power_of_two(ring_size, _LEAST_RING, _LARGEST_RING, "ring_size")
        expect_in(most_flows, range(1, _MOST_FLOWS), "most_flows")
        chosen_pairs = expect_pairs(pair, *pairs)
        if len(chosen_pairs) > _MOST_PAIRS:
            raise ValueError(f"there may be {_MOST_PAIRS} pairs at most, not {len(chosen_pairs)}")

        chosen = filter if isinstance(filter, Filter) or filter is None else Filter(filter)
        objects: list[BPFObject] = []
        observers: list[Observer] = []
        with contextlib.ExitStack() as undo:  # unless all of it succeeds
            for index, each in enumerate(chosen_pairs):
                obj = load_programs(index, len(chosen_pairs), slots, ring_size, objects[0] if objects else None)
                undo.callback(obj.close)
                objects.append(obj)
                programs: dict[Side | str, Program] = {side: obj.programs[f"metrics_{side}"] for side in counted}
                observer = Observer(each, programs, verdict=obj.variables["verdict"], name="metrics", filter=chosen)
                undo.callback(observer.close)
                observers.append(observer)
            maps = objects[0].maps
            super().__init__(
                maps["flow_sets"],
                maps["evicted"],
                maps["unattributed"],
                pair_names=[observer.device for observer in observers],
                clock=read_clock(objects[0]),
                most_flows=most_flows,
                observers=observers,
            )
            undo.pop_all()
        self._objects = objects
        self._observers = observers

    @property
    def observers(self) -> tuple[Observer, ...]:
        """The observers of the pairs, in their order."""
        return tuple(self._observers)

    def rates(self, interval: float = 1.0) -> FlowTable:
        """Count for a while: a table of what came to each flow meanwhile, whose `seconds` say how long that was.

        Signal handlers run meanwhile.

        Args:
            interval: how long, in seconds.

        >>> table = metrics.rates(0.5)  # doctest: +SKIP
        >>> table.total.bytes / table.seconds  # doctest: +SKIP
        """
        seconds = expect_interval(interval)
        if self.closed:
            raise ValueError(f"{self!r}: it is closed")
        earlier = self.snapshot()
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, _LONGEST_SLEEP))
        return self.snapshot().since(earlier)

    def live(self, duration: float | None = None, *, interval: float = 1.0) -> None:
        """Show in a notebook who talks to whom, as it goes on: each side's bits a second, and the flows that send most.

        The last picture stays in the notebook. Interrupting the kernel ends it, and is not an error.

        Args:
            duration: seconds after which it ends; None goes on until it is interrupted or closed.
            interval: seconds between two drawings.

        Raises:
            ImportError: IPython is not installed.
            ValueError: it is closed.

        >>> metrics.live(10)  # doctest: +SKIP
        """
        from netkit_bpf.internal.html import first
        from netkit_bpf.internal.live.view import LiveView, waits

        view = LiveView(repr(self)[1:-1], "bit/s")
        start = self.snapshot()
        with contextlib.suppress(KeyboardInterrupt), view:
            for seconds in waits(expect_timeout(duration, "duration"), expect_interval(interval)):
                came = self.rates(seconds)
                sent = came.by("side")
                rates = {str(side): 8 * sent[side].bytes / came.seconds if side in sent else 0.0 for side in Side}
                most = self.snapshot().since(start).top(_SHOWN)
                rows = [(str(flow).rpartition(": ")[0], flow.packets, flow.bytes) for flow in most if flow.packets]
                table = first(rows, ("flow", "packets", "bytes"), "the flows that sent most since the view began")
                view.draw(rates, [table])
                if self.closed:
                    break

    def close(self) -> None:
        """Detach the programs; the last `snapshot` has all that they counted. Idempotent."""
        with contextlib.ExitStack() as last_first:  # whatever fails, the rest is closed
            for obj in self._objects:
                last_first.callback(obj.close)
            last_first.callback(super().close)
            for observer in self._observers:
                last_first.callback(observer.close)

    def _repr_html_(self) -> str | None:
        return self.snapshot()._repr_html_()

    def __repr__(self) -> str:
        names = ", ".join(observer.device for observer in self._observers)
        return f"<FlowMetrics of {names} {'closed' if self.closed else 'open'}>"


def load_programs(
    index: int, pairs: int, slots: int, ring_size: int = 4 * _MIB, shared: BPFObject | None = None
) -> BPFObject:
    """Load the programs for the pair number `index` of `pairs`; all after the first share its tables."""
    obj = BPFObject.open(program_file("metrics"))
    sets = slots // FlowReader.WAYS
    cpus = possible_cpus()
    obj.variables["pair_index"].value = index
    obj.variables["pair_count"].value = pairs
    obj.variables["set_mask"].value = sets - 1
    obj.variables["wake_above"].value = ring_size // 4
    obj.variables["look_mask"].value = min(ring_size // _LEAST_RING, _LOOK_EVERY) - 1
    obj.programs["metrics_clock"].autoload = shared is None
    if shared is None:
        obj.variables["seeds"].value = [int.from_bytes(os.urandom(8), "little") | 1 for _ in range(_SEEDS)]
        obj.maps["flow_sets"].max_entries = sets * cpus
        obj.maps["unattributed"].max_entries = cpus * pairs * len(Side)
        obj.maps["evicted"].max_entries = ring_size
    else:
        obj.variables["seeds"].value = shared.variables["seeds"].value
        for name in _SHARED:
            obj.maps[name].reuse(shared.maps[name])
    obj.load()
    return obj


def read_clock(obj: BPFObject) -> tuple[int, int]:
    """What jiffies are, of which the program's times are, and CLOCK_MONOTONIC at that moment."""
    obj.programs["metrics_clock"].test_run(bytes(64))
    clock = obj.variables["clock"].value
    return clock.jiffies, clock.monotonic_ns
