"""The flow metrics' programs, run on frames that we hand them, and what is added up of them: no device is needed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from types import TracebackType

from netkit_bpf import BPFObject, Flow, FlowReader, FlowTable, Side
from netkit_bpf.functions.metrics import load_programs, read_clock

PAIR = "nk0"
NEXT = -1


class Counting:
    """The loaded programs of one pair, and their reader."""

    def __init__(self, slots: int = 1024, *, ring_size: int = 4 << 20, most_flows: int = 1_000_000) -> None:
        self.object: BPFObject = load_programs(0, 1, slots, ring_size)
        self._most_flows = most_flows
        self._reader: FlowReader | None = None

    @property
    def reader(self) -> FlowReader:
        """Made when it is first asked for: until then nobody empties the ring."""
        if self._reader is None:
            maps = self.object.maps
            self._reader = FlowReader(
                maps["flow_sets"],
                maps["evicted"],
                maps["unattributed"],
                pair_names=[PAIR],
                clock=read_clock(self.object),
                most_flows=self._most_flows,
            )
        return self._reader

    def send(self, frame: bytes, side: Side = Side.PRIMARY, *, count: int = 1) -> None:
        """Run a side's program on a frame, which it leaves alone."""
        run = self.object.programs[f"metrics_{side}"].test_run(frame, repeat=count)
        assert (run.retval & 0xFFFFFFFF) == NEXT & 0xFFFFFFFF
        assert run.data == frame

    def snapshot(self) -> FlowTable:
        return self.reader.snapshot()

    def __enter__(self) -> Counting:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._reader is not None:
            self._reader.close()
        self.object.close()


def by_ports(table: Iterable[Flow]) -> Counter[int]:
    """How many packets of each source port."""
    packets: Counter[int] = Counter()
    for flow in table:
        if flow.src_port is not None:
            packets[flow.src_port] += flow.packets
    return packets
