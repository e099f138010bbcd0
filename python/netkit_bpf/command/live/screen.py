# SPDX-License-Identifier: MIT
"""A terminal that is drawn on, and given back as it was."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import sys
import termios
import tty
from collections.abc import Iterator, Sequence

from netkit_bpf.internal.writing import write_all

# console_codes(4), xterm: another screen, without a cursor; and back.
_ENTER, _LEAVE = b"\x1b[?1049h\x1b[?25l", b"\x1b[?25h\x1b[?1049l"
_HOME, _END_OF_LINE, _END_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"
_INVERSE, _PLAIN = "\x1b[7m", "\x1b[m"


class Screen:
    """Standard output while it is a terminal, and the keys of standard input if that is one too."""

    def __init__(self) -> None:
        self._keys = sys.stdin.fileno() if sys.stdin is not None and sys.stdin.isatty() else None

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines."""
        return shutil.get_terminal_size()

    def draw(self, lines: Sequence[str], *, heads: int) -> None:
        """Show the lines, the number `heads` of them inverse."""
        text = [f"{_INVERSE}{line}{_PLAIN}" if number == heads else line for number, line in enumerate(lines)]
        self._write(_HOME + f"{_END_OF_LINE}\r\n".join(text) + _END_OF_LINE + _END_OF_SCREEN)

    def key(self, timeout: float) -> str | None:
        """The next key within so many seconds; "" if there can be none any more, None if there is none."""
        if self._keys is None:
            select.select([], [], [], timeout)
            return None
        if not select.select([self._keys], [], [], timeout)[0]:
            return None
        return os.read(self._keys, 1).decode("ascii", "replace")

    @contextlib.contextmanager
    def taken(self) -> Iterator[Screen]:
        """Keys come one by one and unseen; at the end all is as it was."""
        before = None if self._keys is None else termios.tcgetattr(self._keys)
        try:
            if self._keys is not None:
                tty.setcbreak(self._keys, termios.TCSANOW)
            self._write_raw(_ENTER)
            yield self
        finally:
            with contextlib.suppress(OSError):
                self._write_raw(_LEAVE)
            if self._keys is not None and before is not None:
                termios.tcsetattr(self._keys, termios.TCSANOW, before)

    def _write(self, text: str) -> None:
        self._write_raw(text.encode(sys.stdout.encoding or "utf-8", "backslashreplace"))

    def _write_raw(self, data: bytes) -> None:
        write_all(sys.stdout.buffer, data)
