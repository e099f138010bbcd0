# SPDX-License-Identifier: MIT
"""Files of captured packets."""

from __future__ import annotations

import contextlib
import io
import os
import stat
from typing import BinaryIO

from netkit_bpf.internal.resource import Closing
from netkit_bpf.internal.writing import write_all


class BlockFile(Closing):
    """A file that is written block by block, and ends with a whole block at any time.

    Args:
        target: a path, which is created or emptied; or a binary file, which is written from its current position and
            left open. A text file with a binary buffer, such as sys.stdout, works too.

    Raises:
        TypeError: the target is neither.
        OSError: the path cannot be written.
    """

    def __init__(self, target: str | os.PathLike[str] | BinaryIO) -> None:
        self.failed = False  # whether a write did
        self._closed = False
        self._close = isinstance(target, (str, os.PathLike))
        if isinstance(target, (str, os.PathLike)):
            self.name = os.fspath(target)
            self._file: BinaryIO | io.RawIOBase = open(target, "wb", buffering=0)  # noqa: PTH123, SIM115 - closed below
        else:
            below = getattr(target, "buffer", target)
            if not callable(getattr(below, "write", None)) or isinstance(below, io.TextIOBase):
                raise TypeError(f"target must be a path or a binary file, not {type(target).__name__}")
            name = getattr(target, "name", "the file")
            self.name = f"descriptor {name}" if isinstance(name, int) else str(name)
            self._file = below

    @classmethod
    def of(cls, target: BlockFile | str | os.PathLike[str] | BinaryIO) -> BlockFile:
        """Return the target if it is such a file already, which was opened before there was anything to write."""
        return target if isinstance(target, BlockFile) else cls(target)

    def write(self, blocks: bytes) -> None:
        """Write whole blocks at once, for programs that read the file meanwhile.

        Raises:
            BrokenPipeError: the reader of a pipe is gone.
            OSError: the text names the file; ENOSPC, the disk is full. A regular file that was opened here is truncated
                to the blocks of earlier calls.
        """
        start = self._place()
        try:
            write_all(self._file, blocks)
        except BaseException as error:  # a signal handler may raise anything
            self.failed = True
            if start is not None:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._file.fileno(), start)
            if not isinstance(error, OSError) or isinstance(error, BrokenPipeError):
                raise
            text = str(error.strerror)  # which has a name where the target is a file of such files
            raise OSError(error.errno, text if text.startswith("write ") else f"write {self.name}: {text}") from None

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def close(self) -> None:
        """Close the file if it was opened here. Idempotent."""
        self._closed = True
        if self._close:
            self._file.close()

    def _place(self) -> int | None:
        """The position in a regular file that was opened here; None for any other."""
        is_ours = self._close and stat.S_ISREG(os.fstat(self._file.fileno()).st_mode)
        return self._file.tell() if is_ours else None
