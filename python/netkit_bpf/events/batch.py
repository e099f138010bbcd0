# SPDX-License-Identifier: MIT
"""Many packet events in one piece of memory."""

from __future__ import annotations

import math
import operator
import os
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, overload

from netkit_bpf._core import EventBatch as CoreEventBatch
from netkit_bpf._core import Stream, Watch, row_dtype, row_flags
from netkit_bpf.events.event import PacketEvent
from netkit_bpf.events.limits import Limits
from netkit_bpf.internal.arguments import expect
from netkit_bpf.internal.waiting import end_of

if TYPE_CHECKING:
    import numpy
    import pandas

__all__ = ["BatchReader", "EventBatch"]

ANY_NUMBER = 1 << 40  # of events: more than any memory holds


class EventBatch:
    """Packet events as a table: a sequence of `PacketEvent`s, and an array or a data frame without a loop.

    Immutable; any thread may use it. `Monitor.read_batch` and `Monitor.batches` make them.

    An index gives a `PacketEvent`, a slice or a mask (a numpy array or a sequence of booleans, one for each event)
    a batch, and a field's name its column: `batch["length"].sum()`. A slice without a step shares the memory of the
    batch that it is cut from, and so do numpy's arrays: as long as one of them lives, all of that memory does, which is
    96 bytes an event, or up to twice that for a batch from a monitor. Other slices, masks and `concat` copy. Events and
    Arrow tables keep nothing of a batch.

    **numpy.** `numpy.asarray(batch)` is a read-only structured array over the same memory. Its fields are those of
    `PacketEvent`, with these differences: `pair_name` is an index into `batch.pair_names`; `side` is 0 for primary and
    1 for peer; `src` and `dst` are bytes (S16), which numpy shows without the zeros at their end, so that
    `ipaddress.ip_address(src.ljust(16, b"\0")[: 4 if family == 4 else 16])` is the address; a fragment is
    `fragment_offset` and `fragment_more`. A field that does not apply is 0; where 0 is a value too,
    `array["flags"] & EventBatch.FLAGS["icmp_code"] != 0` tells where that field applies.
    `array["timestamp_ns"].view("datetime64[ns]")` are times of UTC. What a monitor with a snaplen keeps of the packets
    is not in the array, because it differs in length: `event.data` and Arrow's column `data` have it.

    **Arrow.** `pyarrow.record_batch(batch)`, `polars.DataFrame(batch)`, `pandas.DataFrame.from_arrow(batch)` and
    DuckDB's `FROM batch` take it as it is, through the Arrow PyCapsule interface. Columns have the same names and are
    null where a field does not apply; times are timestamp[ns, UTC]; `pair_name`, `side`, `src` and `dst` are
    dictionaries of strings, which these libraries call categories.

    >>> batch = monitor.read_batch()  # doctest: +SKIP
    >>> array = numpy.asarray(batch)  # doctest: +SKIP
    >>> web = batch[array["dst_port"] == 443]  # doctest: +SKIP
    >>> polars.DataFrame(web).group_by("src").len()  # doctest: +SKIP

    Attributes:
        FLAGS: by the name of each field that does not always apply, the bit of `flags` that is set where it does;
            flow_label has that of all fields of IP.

    Source: https://arrow.apache.org/docs/format/CDataInterface/PyCapsuleInterface.html
    """

    FLAGS: ClassVar[Mapping[str, int]] = MappingProxyType(row_flags())

    __slots__ = ("_rows",)
    _rows: CoreEventBatch

    def __new__(cls) -> EventBatch:
        """Refuse: batches come from a monitor."""
        raise TypeError("cannot create EventBatch: Monitor.read_batch() makes them, and EventBatch.concat() of others")

    @classmethod
    def _of(cls, rows: CoreEventBatch) -> EventBatch:
        self = super().__new__(cls)
        self._rows = rows
        return self

    @classmethod
    def concat(cls, batches: Iterable[EventBatch]) -> EventBatch:
        """Return one batch with the events of all, one batch after the other; a copy.

        They may be of several monitors; pairs with the same name become one.
        """
        parts = [expect(batch, EventBatch, "each of batches")._rows for batch in batches]
        return cls._of(CoreEventBatch.concat(parts))

    @property
    def pair_names(self) -> tuple[str, ...]:
        """The names of the pairs that the batch may have events of."""
        return self._rows.names

    def __len__(self) -> int:
        return len(self._rows)

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

    def _ipython_key_completions_(self) -> list[str]:
        return list(row_dtype()["names"])

    def __eq__(self, other: object) -> bool:
        return self._rows == other._rows if isinstance(other, EventBatch) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        data = [self._rows.data(i) for i in range(len(self))] if self._rows.has_data else None
        return _rebuild, (bytes(self._rows), data, self.pair_names)

    def __repr__(self) -> str:
        if not self:
            return "<EventBatch 0 events>"
        ways = 'batch["length"], numpy.asarray(batch), polars.DataFrame(batch), batch.to_pandas()'
        return f"<EventBatch {len(self)} events, {_clock(self[0])} to {_clock(self[-1])} UTC: {ways}>"

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> numpy.ndarray[Any, Any]:
        import numpy

        array = numpy.ndarray(len(self), _dtype(), memoryview(self._rows))
        if dtype is not None and dtype != array.dtype:
            if copy is False:
                raise ValueError(f"an EventBatch is no array of {dtype} without a copy")
            return array.astype(dtype)
        return array.copy() if copy else array

    def __arrow_c_schema__(self) -> object:
        """Return the table's schema as a capsule, for libraries that speak Arrow."""
        return self._rows.arrow_schema()

    def __arrow_c_array__(self, requested_schema: object = None) -> tuple[object, object]:
        """Return the table's schema and its data as capsules. Another schema that is requested is not made."""
        return self._rows.arrow_schema(), self._rows.arrow_array()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Return the table as a capsule that gives it in one piece. Another schema that is requested is not made."""
        return self._rows.arrow_stream()

    def to_pandas(self) -> pandas.DataFrame:
        """Return a data frame, with the columns that Arrow has; integers are pandas' own, which know missing values.

        Raises:
            ImportError: pandas or pyarrow is not installed.
        """
        try:
            import pandas
            import pyarrow
        except ImportError as error:
            raise ImportError("to_pandas() needs pandas and pyarrow: pip install 'netkit-bpf[pandas]'") from error
        nullable = {
            pyarrow.uint8(): pandas.UInt8Dtype(),
            pyarrow.uint16(): pandas.UInt16Dtype(),
            pyarrow.uint32(): pandas.UInt32Dtype(),
            pyarrow.bool_(): pandas.BooleanDtype(),
        }
        frame: pandas.DataFrame = pyarrow.record_batch(self).to_pandas(types_mapper=nullable.get)
        return frame

    def to_pcapng(self, target: str | os.PathLike[str] | BinaryIO) -> None:
        """Write the packets to a pcapng file, which Wireshark and tcpdump open, as `Monitor.capture` does.

        The interfaces are the sides of each pair, named after its primary.

        Args:
            target: a path, which is created or emptied, or a binary file, which is left open.

        Raises:
            ValueError: the batch has no data of packets: its monitor has no snaplen.
            OSError: the file cannot be written.

        >>> monitor.read_batch()[:100].to_pcapng("first.pcapng")  # doctest: +SKIP

        Source: https://datatracker.ietf.org/doc/draft-ietf-opsawg-pcapng/
        """
        from netkit_bpf.events.capture import write_rows

        if not self._rows.has_data:
            raise ValueError("this batch has no data of packets: make the monitor with a snaplen")
        write_rows(self._rows, target)

    def _column(self, name: str) -> numpy.ndarray[Any, Any]:
        array = self.__array__()
        if name not in (array.dtype.names or ()):
            raise KeyError(f"no column {name!r}: there are {', '.join(array.dtype.names or ())}")
        column: numpy.ndarray[Any, Any] = array[name]
        return column

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


class BatchReader:
    """The batches of a monitor as they come, for `for` and for `async for`; `Monitor.batches` makes it.

    It gives no empty batch, and ends at its limits or when the monitor is closed.
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
            self._left = 0  # one that has ended stays ended
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

    def watch(self) -> Watch | None:
        """What a task waits for; None where no batch can come any more."""
        return self._stream.watch() if self._left else None

    def _read(self, timeout: float | None) -> CoreEventBatch | None:
        left = self._end - time.monotonic()
        if not self._left or left <= 0:
            return None
        wait = min(math.inf if timeout is None else timeout, left)
        rows = self._stream.read_batch(
            self._left, None if wait == math.inf else wait, merge=False, with_data=self._with_data
        )
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


@cache
def _dtype() -> numpy.dtype[Any]:
    import numpy

    described: Any = row_dtype()
    dtype: numpy.dtype[Any] = numpy.dtype(described)
    return dtype
