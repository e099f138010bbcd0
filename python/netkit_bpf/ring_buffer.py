# SPDX-License-Identifier: MIT
"""Ring buffers of the users' own programs: Documentation/bpf/ringbuf.rst."""

from __future__ import annotations

import contextlib
import mmap
import os
import weakref
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

from netkit_bpf import _core
from netkit_bpf.arguments import expect, expect_timeout
from netkit_bpf.arrays import to_array
from netkit_bpf.codec import Codec
from netkit_bpf.map import Map
from netkit_bpf.map_kinds import Kind
from netkit_bpf.structure import Structure

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MIB = 1 << 20
_COUNTS_SIZE = 16  # two __u64: struct nk_counts, bpf/event.h
_LARGEST_BATCH = 1 << 40


class RingStats(NamedTuple):
    """What became of the records of a ring buffer. At a quiet moment `seen == delivered + lost + pending`.

    Attributes:
        seen: what the program counted in all; None if it does not count.
        delivered: records handed out.
        lost: what found the ring full, by the program's count; None if it does not count.
        pending: records that wait to be read.
    """

    seen: int | None
    delivered: int
    lost: int | None
    pending: int


class RingBuffer:
    """The records that a program of yours puts into a ring buffer, as typed, immutable objects.

    The very reader of `Monitor` reads it: on a thread that all of them share, from construction until `close`.
    Any thread may read, close it and ask for its stats; each record goes to one reader. Signal handlers run
    while a read waits. Iterating waits for ever; `events(timeout=…)` ends in silence. A ring buffer has one
    consumer: it cannot be read by two at once.

    **The type of the records** is what the map's definition says, `__type(value, struct event)`, else that of the
    structure that is called as the map, or as the map without an "s" at its end; without any of these a record is
    bytes. BTF holds a structure only if something mentions it, which the definition of the map does. Structures become
    named tuples; a flexible array at the end of one takes what is left of a longer record.

    **Loss** is accounted for if the program counts it: in a per-CPU array called `counts`, or as the map with
    `_counts` behind it, whose element 0 is two `__u64`: how many records the program wanted to write, and how many of
    them found no room.

    Args:
        map: a map of type ringbuf; of an object it must be loaded.
        type: the name of the records' type in the object, "struct event", or `bytes` to have them as they are.
        queue_size: bytes of records that may wait for Python behind the ring.
        threaded: whether a thread empties the ring while Python does something else; without one records stay in the
            ring until they are read.
        share_thread: whether that thread is the one that all readers share.

    Raises:
        ValueError: the map is closed, not loaded, or read already; or it comes without types.
        LookupError: the object has no such type.
        TypeError: the map is no ring buffer.

    >>> with BPFObject.compile(source) as program, pair.attach(program.programs["watch"], "peer"):  # doctest: +SKIP
    ...     with RingBuffer(program.maps["events"]) as events:
    ...         for event in events.events(timeout=1.0):
    ...             print(event.port, event.comm)
    """

    def __init__(
        self,
        map: Map,  # noqa: A002 - as everywhere else
        *,
        type: str | type[bytes] | None = None,  # noqa: A002 - as numpy and others name it
        queue_size: int = 16 * _MIB,
        threaded: bool = True,
        share_thread: bool = True,
    ) -> None:
        if expect(map, Map, "map")._kind is not Kind.RINGBUF:
            raise TypeError(f"map '{map.name}' is of type {map.type}: RingBuffer reads a ringbuf")
        if expect(queue_size, int, "queue_size") < mmap.PAGESIZE:
            raise ValueError(f"queue_size must be at least {mmap.PAGESIZE} bytes, not {queue_size}")
        expect(threaded, bool, "threaded")
        expect(share_thread, bool, "share_thread")
        self._type = _type_of(map, type)
        core, counts = map._open(), _counts_of(map)
        reader = map._reader()
        if isinstance(reader, RingBuffer) and not reader.closed:
            raise ValueError(f"map '{map.name}' is read already: a ring buffer has one consumer")
        self._name = map.name
        self._counted = counts is not None
        self._stream: _core.Stream[Any] = _core.Stream(
            (core, counts),
            [(core.fileno(), map.max_entries)],
            queue_size,
            _as_it_is if self._type is None else self._type.decode,
            counts=-1 if counts is None else counts.fileno(),
            threaded=threaded,
            share_thread=share_thread,
            loss_advice=_loss_advice(map),
        )
        # Runs at the latest when the interpreter exits, so that no thread waits in a dying interpreter.
        self._closer = weakref.finalize(self, _close, self._stream, os.getpid())
        self._process = os.getpid()
        map._reader = weakref.ref(self)

    @property
    def type(self) -> str:
        """The name of the records' C type; "bytes" if they have none."""
        return "bytes" if self._type is None else self._type.name

    def events(self, timeout: float | None = None) -> Iterator[Any]:
        """Iterate over the records; the iterator ends after `timeout` seconds without one, or on `close`.

        With a timeout of 0 it gives what is there and waits for nothing.

        Raises:
            ValueError: the ring buffer is closed; from the iterator: a record is not of its type.
        """
        self._check_open()
        return self._stream.events(expect_timeout(timeout))

    def __iter__(self) -> Iterator[Any]:
        return self.events()

    def read(self, timeout: float | None = None) -> Any:
        """Return one record; None after `timeout` seconds without one, or when it is closed meanwhile.

        Raises what `events` raises. A timeout of 0 only looks.
        """
        self._check_open()
        return self._stream.read(expect_timeout(timeout))

    def read_batch(self, max_events: int = 65536, timeout: float | None = None) -> NDArray[Any]:
        """Return the records that wait, at most `max_events` of them, as a numpy array.

        Waits for the first; the array is empty after `timeout` seconds without one, or when it is closed meanwhile.
        Structures make a structured array with the fields' names in C.

        Raises:
            TypeError: the records are of no fixed size.
            ValueError: the ring buffer is closed, or a record is not of its type.

        >>> events.read_batch(timeout=1.0)["length"].mean()  # doctest: +SKIP
        """
        if expect(max_events, int, "max_events") < 1:
            raise ValueError(f"max_events must be at least 1, not {max_events}")
        self._check_open()
        if self._type is None or not self._type.size or (isinstance(self._type, Structure) and self._type.tail):
            raise TypeError(f"records of type {self.type} have no fixed size, as an array needs it")
        most = min(max_events, _LARGEST_BATCH)
        return to_array(self._type, _core.read_records(self._stream, most, expect_timeout(timeout), self._type.size))

    def fileno(self) -> int:
        """A descriptor for `select` and its like: readable while records wait, or it has come to its end.

        It stays readable until a read finds nothing: read with a timeout of 0 until None comes. It is gone when the
        ring buffer is closed.

        Raises:
            ValueError: the ring buffer is closed.
        """
        self._check_open()
        return self._stream.fileno()

    @property
    def stats(self) -> RingStats:
        """The account up to now; after `close`, the final one."""
        self._check_process()
        [(seen, delivered, lost, pending)] = self._stream.stats()
        return RingStats(seen if self._counted else None, delivered, lost if self._counted else None, pending)

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return not self._closer.alive

    def close(self) -> None:
        """End the reading and wake whoever waits. Idempotent.

        Records that nobody has read are dropped; the final `stats` count them as pending. The map stays as it is.
        """
        self._closer()

    def __enter__(self) -> RingBuffer:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<RingBuffer {self._name} of {self.type} {'closed' if self.closed else 'open'}>"

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError(f"ring buffer '{self._name}' is closed")
        self._check_process()

    def _check_process(self) -> None:
        if os.getpid() != self._process:
            raise ValueError("the ring buffer belongs to the process that made it, not to its forked child")


def _type_of(ring: Map, wanted: Any) -> Codec | None:
    """The type of the records; None for bytes."""
    if wanted is bytes:
        return None
    types = ring._types
    if wanted is not None:
        name = expect(wanted, str, "type", "the name of a C type, or bytes")
        if types is None:
            raise ValueError(f"map '{ring.name}' comes without types: {name!r} is not known")
        return types.find(name)
    if types is None:
        return None
    if ring._info.value_type:
        return types.codec(ring._info.value_type)
    for name in (ring.name, ring.name.removesuffix("s")):
        with contextlib.suppress(LookupError):
            return types.find(f"struct {name}")
    return None


def _counts_of(ring: Map) -> _core.Map | None:
    """The map in which the program counts what it wanted to write, and what it could not."""
    counts = ring._counts
    if isinstance(counts, Map) and counts._kind is Kind.PERCPU_ARRAY and counts.value_size == _COUNTS_SIZE:
        return counts._open()
    return None


def _as_it_is(record: bytes) -> bytes:
    return record


def _loss_advice(ring: Map) -> str:
    return (
        f"ring buffer '{ring.name}' loses records: they come faster than they are read, and its {ring.max_entries} "
        f"bytes are full. Take a larger max_entries, read in batches, or do less for each record; stats counts what is "
        f"lost. This is said once"
    )


def _close(stream: _core.Stream[Any], process: int) -> None:
    if os.getpid() == process:  # a forked child has no reader's thread
        stream.close()
