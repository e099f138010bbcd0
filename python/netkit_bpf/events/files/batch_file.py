# SPDX-License-Identifier: MIT
"""Batches into one capture file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import BinaryIO

from netkit_bpf._core import pcapng_rows, pcapng_section
from netkit_bpf.events.batch import EventBatch
from netkit_bpf.events.capture import counts_of_side, interfaces_of_pairs
from netkit_bpf.events.pcapng_file import BlockFile
from netkit_bpf.events.stats import PairStats
from netkit_bpf.internal.resource import Closing

_MOST = 65536  # packets at a time


class BatchFile(Closing):
    """A pcapng file of the packets of one batch after the other. The interfaces are the sides of each pair.

    Args:
        target: as of `BlockFile.of`.
        expression: the filter; empty for none.
        snaplen: how many bytes of each packet there are at most; 0 if that is unknown.
    """

    def __init__(
        self, target: BlockFile | str | os.PathLike[str] | BinaryIO, expression: str = "", snaplen: int = 0
    ) -> None:
        self._file = BlockFile.of(target)
        self._expression, self._snaplen = expression, snaplen
        self._known: tuple[str, ...] = ()  # pairs that have interfaces
        self._file.write(pcapng_section("netkit-bpf"))

    def write(self, batch: EventBatch) -> None:
        """Append the packets; a packet's pair may be new, after those of the batches before.

        Raises:
            OSError: the file cannot be written.
        """
        rows = batch._rows
        self._describe(rows.names)
        for first in range(0, len(rows), _MOST):
            self._file.write(pcapng_rows(rows, first, _MOST))

    def write_counts(self, pair: PairStats, filtered: Sequence[int]) -> None:
        """Append what became of the packets of the only pair, unless the file could not be written.

        Args:
            pair: its counts.
            filtered: how many packets of each side did not match the filter.

        Raises:
            OSError: the file cannot be written.
        """
        if self._file.failed:
            return
        self._describe((pair.name,))
        for side, (counts, others) in enumerate(zip((pair.primary, pair.peer), filtered, strict=True)):
            self._file.write(counts_of_side(side, pair.start_ns, (counts.seen, others), counts.lost, counts.delivered))

    def _describe(self, names: tuple[str, ...]) -> None:
        """Append the interfaces of those pairs that are new."""
        if new := names[len(self._known) :]:
            self._file.write(interfaces_of_pairs(new, self._expression, self._snaplen))
        self._known = names

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._file.closed

    def close(self) -> None:
        """Close the file if it was opened here. Idempotent."""
        self._file.close()
