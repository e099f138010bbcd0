# SPDX-License-Identifier: MIT
"""Rows for storage engines, and the accounts that they reconcile with."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

from netkit_bpf.events.batch import EventBatch
from netkit_bpf.events.packet_reader import PacketReader
from netkit_bpf.export.account import Account
from netkit_bpf.export.batch import ExportBatch, Origin
from netkit_bpf.internal.arguments import expect

SCHEMA_VERSION = 1  # raised when a column changes its name, type or meaning; not for one that is added


class Export:
    """Makes the events of one reader rows that say where they come from, and counts them, for storage engines.

    Batches are read as always, and stamped before they are stored. The rows of a stream have the sequence numbers 0, 1,
    2 and so on, in the order of stamping. So a store can tell what it lacks and what it has twice, and `accounts` tell
    what it must have: `delivered` rows, and `lost` packets that are in no row.

    Any thread may use it. It holds nothing that must be closed, and no other export of the same reader knows its
    numbers: make one for each reader.

    Args:
        reader: a `Monitor` or another `PacketReader`.

    >>> export = Export(monitor)  # doctest: +SKIP
    >>> while batch := monitor.read_batch(timeout=1.0):  # doctest: +SKIP
    ...     writer.write_batch(pyarrow.record_batch(export.stamp(batch)))
    >>> print(*export.accounts(), sep="\\n")  # doctest: +SKIP
    """

    def __init__(self, reader: PacketReader) -> None:
        self._reader = expect(reader, PacketReader, "reader")
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        self._origin = Origin(SCHEMA_VERSION, os.uname().nodename, boot_id, os.urandom(16).hex())
        self._lock = threading.Lock()
        self._next = 0

    @property
    def stream(self) -> str:
        """The name of the stream, in each row and account: random, so that no other one has it."""
        return self._origin.stream

    @property
    def host(self) -> str:
        """The name of the machine, in each row and account."""
        return self._origin.host

    @property
    def boot_id(self) -> str:
        """The kernel's name for the time since the machine started, in each row and account."""
        return self._origin.boot_id

    def stamp(self, batch: EventBatch) -> ExportBatch:
        """Return the events of a batch as rows of the stream, with the next sequence numbers. Stamp each batch once.

        Args:
            batch: as `Monitor.read_batch` or `Monitor.batches` gave it. A part of it is possible: what is left out is
                what the store then lacks.

        Raises:
            ValueError: the batch comes from another reader.
        """
        rows = expect(batch, EventBatch, "batch")._rows
        cookies = self._reader.cookies_of(batch.pair_names)
        if cookies is None:
            raise ValueError(f"this batch is of other pairs than the reader: of {', '.join(batch.pair_names)}")
        with self._lock:
            first, self._next = self._next, self._next + len(batch)
        return ExportBatch(rows, self._origin, first, cookies)

    def accounts(self) -> list[Account]:
        """Return the counts of each side of each pair up to now; after the reader was closed, the final ones.

        Store them beside the rows, once a second perhaps, and after the last row. A pair that was removed keeps its
        account until 4096 others have ended; one that is added again before that has the same.
        """
        now = time.time_ns()
        version, host, boot_id, stream = self._origin
        return [
            Account(version, host, boot_id, cookie, name, stream, str(side), now, *counts)
            for ((name, cookie), side), counts in self._reader.sums().items()
        ]

    def __repr__(self) -> str:
        return f"<Export of {self._reader!r}, stream {self.stream}: {self._next} rows>"
