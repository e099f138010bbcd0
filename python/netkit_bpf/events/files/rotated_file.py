# SPDX-License-Identifier: MIT
"""Capture files one after the other, as those of tcpdump(8) with -C, -G and -W."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable

from netkit_bpf.events.pcapng_file import BlockFile
from netkit_bpf.internal.resource import Closing

_SECTION, _INTERFACE, _STATISTICS, _ENHANCED = 0x0A0D0D0A, 1, 5, 6


class FilesFullError(Exception):
    """As many files were written as were asked for."""


class RotatedFile(Closing):
    """A binary file whose content goes to one file after the other, each a whole pcapng file with whole packets.

    Args:
        name: the name of the files. With `seconds`, strftime(3) makes each file's name of it, with the local time at
            which the file begins. With `size`, a number is appended: to all of them with `files`, from 0 on and with as
            many digits as the last one has; else to all but the first.
        size: begin another file before a packet once a file has more bytes than this.
        seconds: begin another file with the first packet that comes so long after the last file was begun.
        files: with `size`, how many there are: the oldest is overwritten. With `seconds` alone, how many are written:
            then `write` raises FilesFullError.
        clock: the current time, as time.time.

    Raises:
        OSError: a file cannot be written.
    """

    def __init__(
        self,
        name: str | os.PathLike[str],
        *,
        size: int | None = None,
        seconds: int | None = None,
        files: int | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.name = os.fspath(name)
        self._size, self._seconds, self._files, self._clock = size, seconds, files, clock
        self._header = b""  # what each file begins with
        self._number = 0  # of the file, among those of one time
        self._times = 0  # that a time ended
        self._closed = False
        self._file = self._open()

    def write(self, blocks: bytes) -> int:
        """Write whole blocks; returns how many bytes that are."""
        start = at = 0
        while at < len(blocks):
            kind, length = struct.unpack_from("=II", blocks, at)
            end = at + length
            if kind in (_SECTION, _INTERFACE):
                self._header += blocks[at:end]
            elif kind == _ENHANCED and self._is_due(at - start):
                self._put(blocks[start:at])
                self._next()
                start = at
            at = end
        self._put(blocks[start:])
        return len(blocks)

    def flush(self) -> None:
        """Do nothing: each write is whole."""

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def close(self) -> None:
        """Close the current file. Idempotent."""
        self._closed = True
        self._file.close()

    def _put(self, blocks: bytes) -> None:
        if blocks:
            self._file.write(blocks)
            self._written += len(blocks)

    def _is_due(self, more: int) -> bool:
        if self._seconds is not None and self._clock() >= self._began + self._seconds:
            return True
        return self._size is not None and self._written + more > self._size

    def _next(self) -> None:
        """Begin another file, with the same header."""
        self._file.close()
        if self._seconds is not None and self._clock() >= self._began + self._seconds:
            self._number, self._times = 0, self._times + 1
            if self._size is None and self._files is not None and self._times >= self._files:
                raise FilesFullError(f"{self._times} files were written")
        else:
            self._number += 1
            if self._files is not None:
                self._number %= self._files
        self._file = self._open()
        self._put(self._header)

    def _open(self) -> BlockFile:
        self._began, self._written = self._clock(), 0
        name = self.name if self._seconds is None else time.strftime(self.name, time.localtime(self._began))
        if self._size is not None and self._files is not None:
            name += str(self._number).zfill(len(str(self._files - 1)))
        elif self._number:
            name += str(self._number)
        return BlockFile(name)
