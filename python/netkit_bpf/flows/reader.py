# SPDX-License-Identifier: MIT
"""Adds up the flows that a program keeps: bpf/include/netkit_bpf/flow.h."""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Sequence

from netkit_bpf._core import FLOW_SET_SIZE, FLOW_WAYS
from netkit_bpf._core import FlowReader as CoreFlowReader
from netkit_bpf.bpf.map import Map
from netkit_bpf.flows.table import FlowTable
from netkit_bpf.internal.arguments import expect, expect_in
from netkit_bpf.internal.resource import Closing
from netkit_bpf.observer.observer import Observer

_MOST_FLOWS = 1 << 31


class FlowReader(Closing):
    """Adds up what programs count of flows in the maps that `<netkit_bpf/flow.h>` describes.

    `FlowMetrics` is made of one; it also reads programs of yours that keep such maps. A thread of its own empties the
    ring before it is full, and wakes for nothing else. A ring buffer has one reader. Any thread may use it.

    Args:
        sets: the sets of all CPUs, a mappable array of `struct nk_flow_set`.
        evicted: the ring buffer of `struct nk_flow_record`.
        unattributed: for each CPU, pair and side, a mappable array of `struct nk_flow_unattributed`.
        pair_names: what the pairs are called, by their numbers in the flows' keys.
        clock: jiffies and CLOCK_MONOTONIC in nanoseconds at one moment, as a program reads them.
        most_flows: how many flows are remembered that are not in the sets any more: those that were seen longest ago
            are not told apart beyond.
        observers: those whose programs count, to be checked five times a second.

    Raises:
        ValueError: a map is closed, not loaded or of another kind, or the ring buffer already has a reader.

    >>> reader = FlowReader(maps["flow_sets"], maps["evicted"], maps["unattributed"],  # doctest: +SKIP
    ...                     pair_names=["nk0"], clock=(clock.jiffies, clock.monotonic_ns))
    """

    SET_SIZE = FLOW_SET_SIZE  # bytes of a set
    WAYS = FLOW_WAYS  # flows of a set

    def __init__(
        self,
        sets: Map,
        evicted: Map,
        unattributed: Map,
        *,
        pair_names: Sequence[str],
        clock: tuple[int, int],
        most_flows: int = 1_000_000,
        observers: Sequence[Observer] = (),
    ) -> None:
        sets_core, evicted_core, unattributed_core = (
            expect(each, Map, "map")._open() for each in (sets, evicted, unattributed)
        )
        jiffies, monotonic_ns = clock
        expect_in(most_flows, range(1, _MOST_FLOWS), "most_flows")
        self._pair_names = tuple(pair_names)
        self._process = os.getpid()
        self._start = time.monotonic()
        self._end: float | None = None
        self._core = CoreFlowReader(
            sets_core.fileno(),
            evicted_core.fileno(),
            unattributed_core.fileno(),
            names=list(self._pair_names),
            most_flows=most_flows,
            jiffies=jiffies,
            monotonic_ns=monotonic_ns,
            observers=[each._open() for each in observers],
        )
        self._closer = weakref.finalize(self, _close, self._core, self._process)

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return not self._closer.alive

    def snapshot(self) -> FlowTable:
        """Return everything that was counted until now, each packet once. After `close`, the final table.

        Raises:
            ValueError: it is called in a forked child.
            OSError: EBUSY, another program reads the ring buffer.
        """
        if os.getpid() != self._process:
            raise ValueError(f"{self!r} belongs to the process that made it, not to its forked child")
        rows = self._core.snapshot()
        end = time.monotonic() if self._end is None else self._end
        return FlowTable._of(rows, end - self._start)

    def close(self) -> None:
        """Take the last snapshot and end the reading. Idempotent."""
        if self._end is None:
            self._end = time.monotonic()
        self._closer()

    def _of(self) -> str:
        return ", ".join(self._pair_names)

    def __repr__(self) -> str:
        return f"<FlowReader of {self._of()} {'closed' if self.closed else 'open'}>"


def _close(core: CoreFlowReader, process: int) -> None:
    if os.getpid() == process:  # a forked child has no thread to end
        core.close()
