# SPDX-License-Identifier: MIT
"""Many packet events in one piece of memory."""

from __future__ import annotations

import math
import operator
import os
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, overload

from netkit_bpf._core import EventBatch as CoreEventBatch
from netkit_bpf._core import Stream, StreamDescriptor, match_filter, row_dtype, row_flags
from netkit_bpf.events.columns import Columns
from netkit_bpf.events.event import PacketEvent, Protocol
from netkit_bpf.events.limits import Limits
from netkit_bpf.internal.arguments import expect
from netkit_bpf.internal.waiting import end_of
from netkit_bpf.observer.filter import Filter

if TYPE_CHECKING:
    import numpy

__all__ = ["BatchReader", "EventBatch"]

_SHOWN = 10  # events in a notebook
PACKET_HEADER = ("after [ms]", "pair", "side", "source", "destination", "protocol", "length")
ANY_NUMBER = 1 << 40  # events: more than fit in any memory


class EventBatch(Columns):
    """Packet events as a table: a sequence of `PacketEvent`s, and an array or a data frame without a loop.

    Immutable; any thread may use it. `Monitor.read_batch` and `Monitor.batches` make them.

    An index gives a `PacketEvent`, a slice or a mask (a numpy array or a sequence of booleans, one for each event)
    a batch, and a field's name its column: `batch["length"].sum()`. Slices without a step and numpy arrays share the
    memory of the batch. All of that memory lives as long as one of them does: 96 bytes per event, or up to twice that
    for a batch from a monitor. Other slices, masks and `concat` copy. Events and Arrow tables are independent of the
    batch.

    **numpy.** `numpy.asarray(batch)` is a read-only structured array over the same memory. Its fields are those of
    `PacketEvent`, with these differences: `pair_name` is an index into `batch.pair_names`; `side` is 0 for primary and
    1 for peer; `src` and `dst` are bytes (S16), which numpy shows without trailing zeros, so that
    `ipaddress.ip_address(src.ljust(16, b"\0")[: 4 if family == 4 else 16])` is the address; `fragment` is split into
    `fragment_offset` and `fragment_more`. A field that does not apply is 0; for a field of which 0 is also a value,
    `array["flags"] & EventBatch.FLAGS["icmp_code"] != 0` tells whether it applies.
    `array["timestamp_ns"].view("datetime64[ns]")` are times of UTC. Packet data, which a monitor with a snaplen keeps,
    is not in the array, because its length varies: see `event.data` and Arrow's column `data`.

    **Arrow.** `pyarrow.record_batch(batch)`, `polars.DataFrame(batch)`, `pandas.DataFrame.from_arrow(batch)` and
    DuckDB's `FROM batch` take it as it is, through the Arrow PyCapsule interface. Columns have the same names, and are
    null if a field does not apply; times are timestamp[ns, UTC]; `pair_name`, `side`, `src` and `dst` are dictionaries
    of strings, which these libraries call categories.

    >>> batch = monitor.read_batch()  # doctest: +SKIP
    >>> array = numpy.asarray(batch)  # doctest: +SKIP
    >>> web = batch[array["dst_port"] == 443]  # doctest: +SKIP
    >>> polars.DataFrame(web).group_by("src").len()  # doctest: +SKIP

    Attributes:
        FLAGS: maps each field that does not always apply to the bit of `flags` that is set if it does; flow_label has
            the bit of all IP fields.

    Source: https://arrow.apache.org/docs/format/CDataInterface/PyCapsuleInterface.html
    """

    FLAGS: ClassVar[Mapping[str, int]] = MappingProxyType(row_flags())

    __slots__ = ("_rows",)
    _rows: CoreEventBatch

    def __new__(cls) -> EventBatch:
        """Refuse: batches come from a monitor."""
        raise TypeError("cannot create EventBatch: Monitor.read_batch() makes them, and EventBatch.concat() joins them")

    @classmethod
    def _of(cls, rows: CoreEventBatch) -> EventBatch:
        self = super().__new__(cls)
        self._rows = rows
        return self

    @classmethod
    def concat(cls, batches: Iterable[EventBatch]) -> EventBatch:
        """Return one batch with the events of all, in order; a copy.

        The batches may come from several monitors; pairs with the same name become one.
        """
        parts = [expect(batch, EventBatch, "each of batches")._rows for batch in batches]
        return cls._of(CoreEventBatch.concat(parts))

    @property
    def pair_names(self) -> tuple[str, ...]:
        """The names of the pairs whose events the batch may hold."""
        return self._rows.names

    def __iter__(self) -> Iterator[PacketEvent]:
        return iter(self._rows)

    @overload
    def __getitem__(self, index: int | numpy.integer[Any]) -> PacketEvent: ...

    @overload
    def __getitem__(self, index: str) -> numpy.ndarray[Any, Any]: ...

    @overload
    def __getitem__(self, index: slice | Sequence[bool] | numpy.ndarray[Any, Any]) -> EventBatch: ...

    def __getitem__(
        self, index: int | numpy.integer[Any] | str | slice | Sequence[bool] | numpy.ndarray[Any, Any]
    ) -> PacketEvent | numpy.ndarray[Any, Any] | EventBatch:
        if isinstance(index, str):
            return self._column(index)
        if isinstance(index, slice):
            rows = range(len(self))[index]
            return self._of(self._rows.slice(max(rows.start, 0), rows.step, len(rows)))
        try:
            number = operator.index(index)  # type: ignore[arg-type]
        except TypeError:
            return self._of(self._rows.select(self._mask(index)))
        if not -len(self) <= number < len(self):
            raise IndexError(f"no event {number} in a batch of {len(self)}")
        return self._rows.event(number % len(self))

    @staticmethod
    def _layout() -> dict[str, Any]:
        return row_dtype()

    def __eq__(self, other: object) -> bool:
        return self._rows == other._rows if isinstance(other, EventBatch) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        data = [self._rows.data(i) for i in range(len(self))] if self._rows.has_data else None
        return _rebuild, (bytes(self._rows), data, tuple(self.pair_names))

    def __repr__(self) -> str:
        if not self:
            return "<EventBatch 0 events>"
        ways = 'batch["length"], numpy.asarray(batch), polars.DataFrame(batch), batch.to_pandas()'
        return f"<EventBatch {len(self)} events, {_clock(self[0])} to {_clock(self[-1])} UTC: {ways}>"

    def _repr_html_(self) -> str | None:
        from netkit_bpf.internal.html import first, show

        rows = [packet_row(event, self[0].timestamp_ns) for event in self[:_SHOWN]]
        left = f" of {len(self):,}" if len(self) > _SHOWN else ""
        caption = f"the first {_SHOWN}{left}" if left else ""
        return show(self, lambda: [first(rows, PACKET_HEADER, caption)] if rows else [])

    def matching(self, chosen: Filter) -> EventBatch:
        """Return the packets that match a filter, as the kernel would have chosen them. It copies their rows.

        Raises:
            ValueError: the batch has no packet data.

        >>> web = batch.matching(Filter("tcp port 443"))  # doctest: +SKIP
        """
        classic = expect(chosen, Filter, "chosen")._classic
        self._check_data()
        return self._of(self._rows.select(match_filter(classic, self._rows)))

    def to_pcapng(self, target: str | os.PathLike[str] | BinaryIO) -> None:
        """Write the packets to a pcapng file, which Wireshark and tcpdump open, as `Monitor.capture` does.

        The interfaces are the sides of each pair, named after its primary.

        Args:
            target: a path, which is created or emptied, or a binary file, which is left open.

        Raises:
            ValueError: the batch has no packet data: its monitor has no snaplen.
            OSError: the file cannot be written.

        >>> monitor.read_batch()[:100].to_pcapng("first.pcapng")  # doctest: +SKIP

        Source: https://datatracker.ietf.org/doc/draft-ietf-opsawg-pcapng/
        """
        from netkit_bpf.events.capture import write_rows

        self._check_data()
        write_rows(self._rows, target)

    def _check_data(self) -> None:
        if not self._rows.has_data:
            raise ValueError("this batch has no packet data: make the monitor with a snaplen")

    def _mask(self, mask: Any) -> bytes:
        """Return a byte for each event, from a numpy array of booleans or a sequence."""
        wanted = f"an index of an EventBatch is an integer, a name, a slice or {len(self)} booleans"
        if hasattr(mask, "__array__"):
            import numpy

            array = numpy.asarray(mask)
            if array.dtype != bool or array.ndim != 1:
                raise TypeError(f"{wanted}, not an array of {array.dtype} with {array.ndim} dimensions")
            mask = array.tobytes()
        elif not isinstance(mask, Sequence) or not all(isinstance(each, bool) for each in mask):
            raise TypeError(f"{wanted}, not a {type(mask).__name__}")
        if len(mask) != len(self):
            raise IndexError(f"{wanted}, not {len(mask)}")
        return bytes(mask)


def packet_row(event: PacketEvent, start_ns: int) -> tuple[object, ...]:
    """A packet as a row of a table that people read; its time since a start."""
    ends = []
    for address, port in ((event.src, event.src_port), (event.dst, event.dst_port)):
        shown = f"[{address}]" if port is not None and event.family == 6 else f"{address}"
        ends.append("" if address is None else shown if port is None else f"{shown}:{port}")
    protocol = event.protocol if event.protocol is not None else event.ethertype
    word = protocol.name if isinstance(protocol, Protocol) else "" if protocol is None else f"{protocol:#x}"
    after = f"{(event.timestamp_ns - start_ns) / 1e6:.3f}"
    return after, event.pair_name, event.side, *ends, word, event.length


class BatchReader:
    """The batches of a monitor as they come, for `for` and for `async for`; `Monitor.batches` makes it.

    It never gives an empty batch, and ends at its limits or when the monitor is closed.
    """

    __slots__ = ("_end", "_left", "_stream", "_timeout", "_with_data")

    def __init__(self, stream: Stream[PacketEvent], limits: Limits, *, with_data: bool) -> None:
        self._stream = stream
        self._timeout = limits.timeout
        self._end = end_of(limits.duration)
        self._left = ANY_NUMBER if limits.number is None else min(limits.number, ANY_NUMBER)  # events
        self._with_data = with_data

    def __iter__(self) -> BatchReader:
        return self

    def __next__(self) -> EventBatch:
        rows = self._read(self._timeout)
        if not rows:
            self._left = 0  # an iterator that has ended stays ended
            raise StopIteration
        return EventBatch._of(rows)

    def __aiter__(self) -> AsyncIterator[EventBatch]:
        from netkit_bpf.events.async_reader import Reader

        def waiting() -> Iterator[EventBatch]:
            while rows := self._read(0.0):
                yield EventBatch._of(rows)

        duration = None if self._end == math.inf else self._end - time.monotonic()
        return Reader(self, waiting, Limits(self._timeout, duration, None), patience=1)

    @property
    def threaded(self) -> bool:
        """Whether a thread empties the rings."""
        return self._stream.threaded

    def descriptor(self) -> StreamDescriptor | None:
        """The descriptor that a task waits for; None once no batch can come any more."""
        return self._stream.descriptor() if self._left else None

    def _read(self, timeout: float | None) -> CoreEventBatch | None:
        left = self._end - time.monotonic()
        if not self._left or left <= 0:
            return None
        wait = min(math.inf if timeout is None else timeout, left)
        timeout = None if wait == math.inf else wait
        rows = CoreEventBatch.read(self._stream, self._left, timeout, merge=False, with_data=self._with_data)
        if self._left < ANY_NUMBER:
            self._left -= len(rows)
        return rows


def _rebuild(rows: bytes, data: list[bytes] | None, pair_names: tuple[str, ...]) -> EventBatch:
    """Undo EventBatch.__reduce__."""
    return EventBatch._of(CoreEventBatch.from_rows(rows, data, pair_names))


def _clock(event: PacketEvent) -> str:
    seconds, nanoseconds = divmod(event.timestamp_ns, 10**9)
    import datetime

    time = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)
    return f"{time:%H:%M:%S}.{nanoseconds // 10**6:03}"
