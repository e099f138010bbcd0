# SPDX-License-Identifier: MIT
"""Writing all of something, also to what does not block and takes a part."""

from __future__ import annotations

import io
from typing import BinaryIO


def write_all(file: BinaryIO | io.RawIOBase, data: bytes) -> None:
    """Write the bytes and flush; where the file takes nothing now, wait until it does."""
    rest = memoryview(data)
    while rest:
        try:
            written = file.write(rest)
        except BlockingIOError as error:  # of a buffer before what does not block; it has kept that many
            written = error.characters_written
            _wait(file)
        if written is None and isinstance(file, io.RawIOBase):
            written = 0
            _wait(file)
        rest = rest[len(rest) if written is None else written :]  # other files say nothing, and took all
    while not _is_flushed(file):
        _wait(file)


def _is_flushed(file: BinaryIO | io.RawIOBase) -> bool:
    try:
        file.flush()
    except BlockingIOError:
        return False
    return True


def _wait(file: BinaryIO | io.RawIOBase) -> None:
    import select

    ready = select.poll()
    ready.register(file.fileno(), select.POLLOUT)
    ready.poll()
