# SPDX-License-Identifier: MIT
"""Reading ring buffers with records of any type: Documentation/bpf/ringbuf.rst."""

from __future__ import annotations

import os
import weakref
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from netkit_bpf._core import COUNTS_SIZE, Stream
from netkit_bpf._core import Map as CoreMap
from netkit_bpf.bpf.map import Map
from netkit_bpf.bpf.map_types import Kind
from netkit_bpf.events.limits import Limits
from netkit_bpf.internal.arguments import StreamOptions, expect, expect_timeout
from netkit_bpf.internal.resource import Closing
from netkit_bpf.observer.observer import Observer

if TYPE_CHECKING:
    from netkit_bpf._core import EventIterator

_T = TypeVar("_T")
_R = TypeVar("_R", bound="RecordReader[Any]")


class RecordReader(Closing, Generic[_T]):
    """Reads a ring buffer: the common part of `RingBuffer`, `PacketReader` and `Monitor`.

    Any thread may read, close it and ask for its stats; each record goes to one reader. Signal handlers run
    while a read waits. Iterating, with `for` and with `async for`, waits for ever; `events` takes limits.
    A forked child can neither use it nor harm it. As a context manager it is closed on exit.
    """

    def __init__(
        self,
        rings: Sequence[Map],
        decoder: Any,
        options: StreamOptions,
        observers: Sequence[Observer],
        *,
        called: str,
        loss_advice: str,
        sources: int = 1,
        source_offset: int = 0,
        pair_offset: int | None = None,
        endless: bool = False,
    ) -> None:
        # The counts of the first ring are those of all; with `pair_offset`, those of pairs come later. For `decoder`,
        # `sources`, the offsets and `loss_advice` see `Stream`; errors name the reader by `called`. An endless one does
        # not end with its last pair.
        cores = [ring._open() for ring in rings]
        counts = counts_of(rings[0], sources) if pair_offset is None else None
        self._called = called
        self._counted = counts is not None
        self._process = os.getpid()
        self._observers = check_observers(observers)
        self._stream: Stream[Any] = Stream(
            (cores, counts),
            [core.fileno() for core in cores],
            decoder,
            **options._asdict(),
            counts=-1 if counts is None else counts.fileno(),
            sources=sources,
            source_offset=source_offset,
            pair_offset=pair_offset,
            endless=endless,
            observers=[each._open() for each in self._observers],
            loss_advice=loss_advice,
        )
        # Runs at the latest when the interpreter exits, so that no thread waits in it then.
        self._closer = weakref.finalize(self, _close, self._stream, self._process)

    def events(
        self, timeout: float | None = None, duration: float | None = None, count: int | None = None
    ) -> EventIterator[_T]:
        """Iterate over the records, with `for` or with `async for`; the iterator also ends on `close`.

        In a task the event loop stays free while there are no records.

        Args:
            timeout: seconds without a record after which it ends. With 0 it gives what is there and waits for nothing.
            duration: seconds from now after which it ends, even if records keep coming.
            count: how many records it gives at most, 1 or more.

        Raises:
            ValueError: it is closed; from the iterator: a record does not have the expected type. Iteration can go on.
            OSError: from the iterator: ENODEV, the last observed device or its namespace was deleted, and all earlier
                records have been delivered; EBUSY, another program reads the ring too; ENOMEM, there is no memory for
                records, which stay in the ring until the next try.
        """
        self._check_open()
        stream, limits = self._stream, Limits.of(timeout, duration, count)

        def make_async() -> AsyncIterator[_T]:
            from netkit_bpf.events.async_reader import Reader

            return Reader(stream, lambda: stream.events(0.0), limits, patience=256)

        return stream.events(*limits, make_async)

    def __iter__(self) -> Iterator[_T]:
        return self.events()

    def __aiter__(self) -> AsyncIterator[_T]:
        return aiter(self.events())

    def read(self, timeout: float | None = None) -> _T | None:
        """Return one record; None after `timeout` seconds without one, or if the reader is closed meanwhile.

        Raises what `events` raises. A timeout of 0 only looks.
        """
        self._check_open()
        return self._stream.read(expect_timeout(timeout))

    def fileno(self) -> int:
        """A descriptor for `select` and its like: readable while records wait, or once reading has ended.

        It stays readable until a read finds nothing: read with a timeout of 0 until None comes. It belongs to the
        reader and is closed with it.

        Raises:
            ValueError: it is closed.
        """
        self._check_open()
        return self._stream.fileno()

    @property
    def observers(self) -> tuple[Observer, ...]:
        """The observers that it was given."""
        return self._observers

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return not self._closer.alive

    def close(self) -> None:
        """Stop reading and wake all waiting readers. Idempotent.

        Unread records are dropped; the final `stats` count them as pending. The map stays as it is.
        """
        self._closer()

    def __enter__(self: _R) -> _R:
        self._check_open()
        return self

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError(f"{self._called} is closed")
        self._check_process()

    def _check_process(self) -> None:
        if os.getpid() != self._process:
            raise ValueError(f"{self._called} belongs to the process that made it, not to its forked child")


def check_ring(ring: Map, reader: str) -> Map:
    """Return the map if it is a ring buffer; TypeError if not."""
    if expect(ring, Map, "map")._kind is not Kind.RINGBUF:
        raise TypeError(f"map '{ring.name}' is of type {ring.type}: {reader} reads a ringbuf")
    return ring


def counts_of(ring: Map, sources: int) -> CoreMap | None:
    """The map in which the program counts the records that it wanted to write, and those that it could not."""
    counts = ring._counts
    return counts._open() if isinstance(counts, Map) and counts_fit(counts, sources) else None


def counts_fit(counts: Map, sources: int) -> bool:
    """Whether the map is a per-CPU array with a struct nk_counts for each of so many sources."""
    is_array = counts._kind is Kind.PERCPU_ARRAY and counts.value_size == COUNTS_SIZE
    return is_array and counts.max_entries >= sources


def check_observers(observers: Sequence[Observer]) -> tuple[Observer, ...]:
    """Refuse anything that is not an observer."""
    expect(observers, Sequence, "observers")  # type: ignore[type-abstract]
    return tuple(expect(each, Observer, "each of observers") for each in observers)


def _close(stream: Stream[Any], process: int) -> None:
    if os.getpid() == process:  # a forked child has no reader thread
        stream.close()
