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


class RingBuffer(RecordReader[Any]):
    """The records that a program of yours puts into a ring buffer, as typed, immutable objects.

    The very reader of `Monitor` reads it: on a thread that all of them share, from construction until `close`.
    Any thread may read, close it and ask for its stats; each record goes to one reader. Signal handlers run
    while a read waits. Iterating, with `for` and with `async for`, waits for ever; `events` takes limits.
    A ring buffer has one consumer: it cannot be read by two at once, whether in this process, which is refused, or in
    two, of which the reading notices that its place was moved. A record that is not of its type is an error for the
    read that comes to it, and is counted as delivered.

    **The type of the records** is what the map's definition says, `__type(value, struct event)`, else that of the
    structure that is called as the map, or as the map without an "s" at its end; without any of these a record is
    bytes. BTF holds a structure only if something mentions it, which the definition of the map does. Structures become
    named tuples; a flexible array at the end of one, `char data[]`, takes what the record has from its offset on, which
    may lie within the structure's padding: reserve or output offsetof(struct event, data) and the data's bytes.

    **Loss** is accounted for if the program counts it: in a per-CPU array called `counts`, or as the map with
    `_counts` behind it, whose element 0 is two `__u64`: how many records the program wanted to write, and how many of
    them found no room.

    Args:
        map: a map of type ringbuf; of an object it must be loaded.
        type: the name of the records' type in the object, "struct event", or `bytes` to have them as they are.
        queue_size: bytes of records that may wait for Python behind the ring.
        thread: "shared" is the thread that all readers share, "own" one of this reader alone: it empties the ring while
            Python does something else. With None records stay in the ring until they are read.
        observers: those whose programs write into it, for the reader to check: five times a second their verdicts
            are brought in accord with their pairs' policies, and once a pair is gone the reading ends.

    Raises:
        ValueError: the map is closed, not loaded, read already, or has the flag BPF_F_RB_OVERWRITE; or it comes
            without types.
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
        """Return one record; None after `timeout` seconds without one, or when it is closed meanwhile.

        Raises what `events` raises. A timeout of 0 only looks.
        """
        self._check_open()
        return self._stream.read(expect_timeout(timeout))

    def read_batch(self, max_events: int = 65536, timeout: float | None = None) -> NDArray[Any]:
        """Return the records that wait, at most `max_events` of them, as a numpy array.

        Waits for the first; the array is empty after `timeout` seconds without one, or when it is closed meanwhile.
        It ends before a record that is not of its type, which is an error for the next call. Structures make a
        structured array with the fields' names in C.

        Raises:
            TypeError: the records are of no fixed size.
            ValueError: the ring buffer is closed, or a record is not of its type.

        >>> events.read_batch(timeout=1.0)["length"].mean()  # doctest: +SKIP
        """
        if expect(max_events, int, "max_events") < 1:
            raise ValueError(f"max_events must be at least 1, not {max_events}")
        self._check_open()
        if self._type is None or not self._type.size or (isinstance(self._type, Structure) and self._type.tails):
            hint = ": say __type(value, struct ...) in the map's definition" if self._type is None else ""
            raise TypeError(f"records of type {self.type} have no fixed size, as an array needs it{hint}")
        most = min(max_events, _LARGEST_BATCH)
        return to_array(self._type, read_records(self._stream, most, expect_timeout(timeout), self._type.size))

    @property
    def stats(self) -> RingStats:
        """The account up to now; after `close`, the final one."""
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


def _as_it_is(record: bytes) -> bytes:
    return record


def _loss_advice(ring: Map) -> str:
    return (
        f"ring buffer '{ring.name}' loses records: they come faster than they are read, and its {ring.max_entries} "
        f"bytes are full. Take a larger max_entries, read in batches, or do less for each record; stats counts what is "
        f"lost. This is said once"
    )
