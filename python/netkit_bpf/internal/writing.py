# SPDX-License-Identifier: MIT
"""Writing all of the bytes, also to a file that does not block and takes only a part."""

from __future__ import annotations

import io
from typing import BinaryIO


def write_all(file: BinaryIO | io.RawIOBase, data: bytes) -> None:
    """Write the bytes and flush; wait while the file takes nothing."""
    rest = memoryview(data)
    while rest:
        try:
            written = file.write(rest)
        except BlockingIOError as error:  # from a buffer on a non-blocking file, which has taken that many
            written = error.characters_written
            _wait(file)
        if written is None and isinstance(file, io.RawIOBase):
            written = 0
            _wait(file)
        rest = rest[len(rest) if written is None else written :]  # files that return None took all
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
