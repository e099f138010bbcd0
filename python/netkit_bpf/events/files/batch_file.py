# SPDX-License-Identifier: MIT
"""Batches into one capture file."""

from __future__ import annotations

import os
from typing import BinaryIO

from netkit_bpf._core import pcapng_rows, pcapng_section
from netkit_bpf.events.batch import EventBatch
from netkit_bpf.events.capture import interfaces_of_pairs
from netkit_bpf.events.pcapng_file import BlockFile
from netkit_bpf.internal.resource import Closing

_MOST = 65536  # packets at a time


class BatchFile(Closing):
    """A pcapng file of the packets of one batch after the other. The interfaces are the sides of each pair.

    Args:
        target: as of `BlockFile`.
        expression: the filter; empty for none.
    """

    def __init__(self, target: str | os.PathLike[str] | BinaryIO, expression: str = "") -> None:
        self._file = BlockFile(target)
        self._expression = expression
        self._known: tuple[str, ...] = ()  # pairs that have interfaces
        self._file.write(pcapng_section("netkit-bpf"))

    def write(self, batch: EventBatch) -> None:
        """Append the packets; a packet's pair may be new, after those of the batches before.

        Raises:
            OSError: the file cannot be written.
        """
        rows = batch._rows
        if new := rows.names[len(self._known) :]:
            self._file.write(interfaces_of_pairs(new, self._expression))
        self._known = rows.names
        for first in range(0, len(rows), _MOST):
            self._file.write(pcapng_rows(rows, first, _MOST))

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._file.closed

    def close(self) -> None:
        """Close the file if it was opened here. Idempotent."""
        self._file.close()
