# SPDX-License-Identifier: MIT
"""Packet events as rows of an exported stream."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import NamedTuple

from netkit_bpf._core import EventBatch as CoreEventBatch
from netkit_bpf._core import StampedBatch
from netkit_bpf.events.columns import ArrowTable


class Origin(NamedTuple):
    """What all rows of a stream have in common."""

    schema_version: int
    host: str
    boot_id: str
    stream: str


class ExportBatch(ArrowTable):
    """The rows of a batch: an Arrow table, or lines of JSON. Made by `Export.stamp`.

    `pyarrow.record_batch(rows)`, `polars.DataFrame(rows)` and DuckDB's `FROM rows` take it as it is. Its columns are
    those of an `EventBatch` and behind them schema_version, host, boot_id, netns_cookie, stream and sequence. host,
    boot_id and stream are dictionaries of one string, and the schema's metadata have `netkit_bpf.schema_version`.

    Immutable; any thread may use it. It shares the memory of the batch.
    """

    __slots__ = ("_events", "_first", "_origin", "_rows")
    _rows: StampedBatch

    def __init__(self, events: CoreEventBatch, origin: Origin, first: int, cookies: list[int | None]) -> None:
        self._events = events
        self._origin = origin
        self._first = first
        self._rows = StampedBatch(
            events, origin.schema_version, origin.host, origin.boot_id, origin.stream, first, cookies
        )

    @property
    def sequence(self) -> range:
        """The sequence numbers of the rows."""
        return range(self._first, self._first + len(self))

    def json_lines(self) -> Iterator[str]:
        """Each row as a line of JSON, of type "event", without the newline; its keys are the columns' names.

        As in `PacketEvent.to_json`, what does not apply is null, and `fragment` and `data` are one key each.
        """
        origin = json.dumps({"type": "event", **self._origin._asdict()})[:-1]
        for number, event in enumerate(self._events):
            cookie = json.dumps(self._rows.netns_cookie(number))
            yield f'{origin}, "netns_cookie": {cookie}, "sequence": {self._first + number}, {event.to_json()[1:]}'

    def __repr__(self) -> str:
        return f"<ExportBatch of stream {self._origin.stream}, rows {self._first} to {self._first + len(self) - 1}>"
