# SPDX-License-Identifier: MIT
"""Reading ring buffers, whatever their records are: Documentation/bpf/ringbuf.rst."""

from __future__ import annotations

import mmap
import os
import weakref
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from netkit_bpf._core import COUNTS_SIZE, Stream
from netkit_bpf._core import Map as CoreMap
from netkit_bpf.bpf.map import Map
from netkit_bpf.bpf.map_types import Kind
from netkit_bpf.internal.arguments import expect, expect_timeout
from netkit_bpf.internal.resource import Closing
from netkit_bpf.observer.observer import Observer

_T = TypeVar("_T")
_R = TypeVar("_R", bound="RecordReader[Any]")
MIB = 1 << 20


class Reading(NamedTuple):
    """How a ring buffer is read: the options that all readers have."""

    queue_size: int
    threaded: bool
    share_thread: bool
    observers: Sequence[Observer] = ()

    def check(self) -> None:
        """Refuse what is not possible, whatever the kernel."""
        if expect(self.queue_size, int, "queue_size") < mmap.PAGESIZE:
            raise ValueError(f"queue_size must be at least {mmap.PAGESIZE} bytes, not {self.queue_size}")
        expect(self.threaded, bool, "threaded")
        expect(self.share_thread, bool, "share_thread")
        expect(self.observers, Sequence, "observers")  # type: ignore[type-abstract]
        for each in self.observers:
            expect(each, Observer, "each of observers")


class RecordReader(Closing, Generic[_T]):
    """Reads a ring buffer: what `RingBuffer`, `PacketReader` and so `Monitor` have in common.

    Any thread may read, close it and ask for its stats; each record goes to one reader. Signal handlers run
    while a read waits. Iterating, with `for` and with `async for`, waits for ever; `events(timeout=…)` ends in silence.
    A forked child can neither use it nor harm it. As a context manager it is closed on exit.
    """

    def __init__(
        self,
        rings: Sequence[Map],
        decoder: Any,
        reading: Reading,
        *,
        called: str,
        loss_advice: str,
        sources: int = 1,
        source_offset: int = 0,
        ordered: bool = False,
    ) -> None:
        # The first ring's counts are those of all. `decoder`, `sources`, `source_offset`, `loss_advice` and `ordered`
        # are `Stream`'s; errors call the reader `called`.
        cores, counts = [ring._open() for ring in rings], counts_of(rings[0], sources)
        self._called = called
        self._counted = counts is not None
        self._process = os.getpid()
        self._observers = tuple(reading.observers)
        taken = _take(rings)
        try:
            self._stream: Stream[Any] = Stream(
                (cores, counts),
                [(core.fileno(), ring.max_entries) for core, ring in zip(cores, rings, strict=True)],
                reading.queue_size,
                decoder,
                counts=-1 if counts is None else counts.fileno(),
                sources=sources,
                source_offset=source_offset,
                observers=[each._open() for each in self._observers],
                threaded=reading.threaded,
                share_thread=reading.share_thread,
                loss_advice=loss_advice,
                ordered=ordered,
            )
        except BaseException:
            _give_back(taken)
            raise
        # Runs at the latest when the interpreter exits, so that no thread waits in a dying interpreter.
        self._closer = weakref.finalize(self, _close, self._stream, self._process, taken)

    def events(self, timeout: float | None = None) -> Iterator[_T]:
        """Iterate over the records; the iterator ends after `timeout` seconds without one, or on `close`.

        With a timeout of 0 it gives what is there and waits for nothing.

        Raises:
            ValueError: it is closed; from the iterator: a record is not of its type.
            OSError: ENODEV, from the iterator: the device that is observed, or its namespace, was deleted, and all
                records from before that are delivered.
        """
        self._check_open()
        return self._stream.events(expect_timeout(timeout))

    def __iter__(self) -> Iterator[_T]:
        return self.events()

    def __aiter__(self) -> AsyncIterator[_T]:
        """Iterate in a task: the event loop that runs it stays free while there are no records."""
        from netkit_bpf.events.async_reader import Reader

        self._check_open()
        return Reader(self._stream, lambda: self._stream.events(0.0), None, patience=256)

    def read(self, timeout: float | None = None) -> _T | None:
        """Return one record; None after `timeout` seconds without one, or when it is closed meanwhile.

        Raises what `events` raises. A timeout of 0 only looks.
        """
        self._check_open()
        return self._stream.read(expect_timeout(timeout))

    def fileno(self) -> int:
        """A descriptor for `select` and its like: readable while records wait, or the reading has come to its end.

        It stays readable until a read finds nothing: read with a timeout of 0 until None comes. It is the reader's
        own and gone when that is closed.

        Raises:
            ValueError: it is closed.
        """
        self._check_open()
        return self._stream.fileno()

    @property
    def observers(self) -> tuple[Observer, ...]:
        """Those that it was given."""
        return self._observers

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return not self._closer.alive

    def close(self) -> None:
        """End the reading and wake whoever waits. Idempotent.

        Records that nobody has read are dropped; the final `stats` count them as pending. The map stays as it is.
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
    """The map in which the program counts what it wanted to write, and what it could not."""
    counts = ring._counts
    if not isinstance(counts, Map) or counts._kind is not Kind.PERCPU_ARRAY or counts.value_size != COUNTS_SIZE:
        return None
    return counts._open() if counts.max_entries >= sources else None


def _take(rings: Sequence[Map]) -> list[list[None]]:
    """Become the consumer of each: of two threads one, as a list pops once."""
    taken: list[list[None]] = []
    for ring in rings:
        try:
            ring._unread.pop()
        except IndexError:
            _give_back(taken)
            raise ValueError(f"map '{ring.name}' is read already: a ring buffer has one consumer") from None
        taken.append(ring._unread)
    return taken


def _give_back(taken: list[list[None]]) -> None:
    for unread in taken:
        unread.append(None)


def _close(stream: Stream[Any], process: int, taken: list[list[None]]) -> None:
    try:
        if os.getpid() == process:  # a forked child has no reader's thread
            stream.close()
    finally:
        _give_back(taken)
