# SPDX-License-Identifier: MIT
"""Ring buffers of the users' own programs: Documentation/bpf/ringbuf.rst."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from netkit_bpf._core import read_records
from netkit_bpf.bpf.map import Map
from netkit_bpf.btf.arrays import to_array
from netkit_bpf.btf.codec import Codec
from netkit_bpf.btf.structure import Structure
from netkit_bpf.events.reader import RecordReader, check_ring
from netkit_bpf.internal.arguments import StreamOptions, Thread, expect, expect_timeout
from netkit_bpf.observer.observer import Observer

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LARGEST_BATCH = 1 << 40


class RingStats(NamedTuple):
    """What became of the records of a ring buffer. While nothing is written, `seen == delivered + lost + pending`.

    Attributes:
        seen: all records, as counted by the program; None if it does not count.
        delivered: records handed out.
        lost: records that found the ring full, as counted by the program; None if it does not count.
        pending: records that wait to be read.
    """

    seen: int | None
    delivered: int
    lost: int | None
    pending: int


class RingBuffer(RecordReader[Any]):
    """Reads the records that your program puts into a ring buffer, as typed, immutable objects.

    It is read by the same code as `Monitor`: on a thread that all readers share, from construction until `close`.
    Any thread may read, close it and ask for its stats; each record goes to one reader. Signal handlers run
    while a read waits. Iterating, with `for` and with `async for`, waits for ever; `events` takes limits.
    A ring buffer has one consumer: a second reader in this process is refused; if another process reads it too, this
    reader notices that its position was moved and raises an error. A record that does not have the expected type raises
    an error when it is read, and counts as delivered.

    **The type of the records** is given by the map's definition, `__type(value, struct event)`. Without that it is the
    structure with the name of the map, or with that name less a final "s"; if there is none, a record is bytes. BTF
    holds a structure only if something mentions it, which the definition of the map does. Structures become named
    tuples; a flexible array at the end of one, `char data[]`, takes the rest of the record from its offset on. That
    offset may lie within the structure's padding, so reserve or output offsetof(struct event, data) plus the length of
    the data.

    **Loss** is reported if the program counts it: in a per-CPU array called `counts`, or with the name of the map and
    `_counts` appended. Its element 0 is two `__u64`: how many records the program wanted to write, and how many of them
    found no room.

    Args:
        map: a map of type ringbuf, which must be loaded.
        type: the name of the records' type in the object, "struct event", or `bytes` to have them as they are.
        queue_size: bytes of records that may wait for Python behind the ring.
        thread: the thread that empties the ring while Python does something else: "shared" is the one that all readers
            share, "own" is a separate one. With None records stay in the ring until they are read.
        observers: the observers whose programs write into it. The reader lets them check when something changes, which
            makes their verdicts follow the policies of their pairs; once all pairs are gone, reading ends.

    Raises:
        ValueError: the map is closed, not loaded, has a reader already, has the flag BPF_F_RB_OVERWRITE, or has no
            types.
        LookupError: the object has no such type.
        TypeError: the map is not a ring buffer.

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
        queue_size: int = StreamOptions().queue_size,
        thread: Thread | None = "shared",
        observers: Sequence[Observer] = (),
    ) -> None:
        check_ring(map, "RingBuffer")
        options = StreamOptions(queue_size, thread=thread).check()
        self._type = _type_of(map, type)
        self._name = map.name
        super().__init__(
            [map],
            _as_it_is if self._type is None else self._type.decode,
            options,
            observers,
            called=f"ring buffer '{map.name}'",
            loss_advice=_loss_advice(map),
        )

    @property
    def type(self) -> str:
        """The name of the records' C type; "bytes" if they have none."""
        return "bytes" if self._type is None else self._type.name

    def read(self, timeout: float | None = None) -> Any:
        """Return one record; None after `timeout` seconds without one, or if the reader is closed meanwhile.

        Raises what `events` raises. A timeout of 0 only looks.
        """
        self._check_open()
        return self._stream.read(expect_timeout(timeout))

    def read_batch(self, max_events: int = 65536, timeout: float | None = None) -> NDArray[Any]:
        """Return the records that wait, at most `max_events` of them, as a numpy array.

        Waits for the first; the array is empty after `timeout` seconds without one, or if the reader is closed
        meanwhile. It ends before a record that does not have the expected type; the next call raises the error.
        Structures make a structured array with the field names of C.

        Raises:
            TypeError: the records have no fixed size.
            ValueError: the ring buffer is closed, or a record does not have the expected type.

        >>> events.read_batch(timeout=1.0)["length"].mean()  # doctest: +SKIP
        """
        if expect(max_events, int, "max_events") < 1:
            raise ValueError(f"max_events must be at least 1, not {max_events}")
        self._check_open()
        if self._type is None or not self._type.size or (isinstance(self._type, Structure) and self._type.tails):
            hint = ": say __type(value, struct ...) in the map's definition" if self._type is None else ""
            raise TypeError(f"records of type {self.type} have no fixed size, which an array needs{hint}")
        most = min(max_events, _LARGEST_BATCH)
        return to_array(self._type, read_records(self._stream, most, expect_timeout(timeout), self._type.size))

    @property
    def stats(self) -> RingStats:
        """The counts so far; after `close`, the final ones."""
        self._check_process()
        [(seen, delivered, lost, pending)] = self._stream.stats()
        return RingStats(seen if self._counted else None, delivered, lost if self._counted else None, pending)

    def _of(self) -> str:
        return self._name

    def __repr__(self) -> str:
        return f"<RingBuffer {self._name} of {self.type} {'closed' if self.closed else 'open'}>"


def _type_of(ring: Map, wanted: Any) -> Codec | None:
    """The type of the records; None for bytes."""
    if wanted is bytes:
        return None
    types = ring._types
    if wanted is not None:
        name = expect(wanted, str, "type", "the name of a C type, or bytes")
        if types is None:
            raise ValueError(f"map '{ring.name}' has no types: {name!r} is not known")
        return types.find(name)
    if types is None:
        return None
    if ring._info.value_type:
        return types.codec(ring._info.value_type)
    for name in (ring.name, ring.name.removesuffix("s")):
        with contextlib.suppress(LookupError):
            return types.find(f"struct {name}")
    return None


def _as_it_is(record: bytes) -> bytes:
    return record


def _loss_advice(ring: Map) -> str:
    return (
        f"ring buffer '{ring.name}' loses records: they come faster than they are read, and its {ring.max_entries} "
        f"bytes are full. Take a larger max_entries, read in batches, or do less for each record; stats counts what is "
        f"lost. This warning is given once"
    )
