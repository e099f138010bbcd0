# SPDX-License-Identifier: MIT
"""What goes on, on a terminal, for as long as nothing else is to be seen."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import TracebackType

_PERIOD = 1.0  # seconds; what is done by then shows nothing


class Progress:
    """Shows a line on standard error if that is a terminal, each second anew, and removes it at the end."""

    def __init__(self, text: str | Callable[[], str]) -> None:
        self._text = text
        self._done = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Progress:
        if sys.stderr is not None and sys.stderr.isatty():
            self._thread = threading.Thread(target=self._show, daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _: TracebackType | None
    ) -> None:
        if self._thread is not None:
            self._done.set()
            self._thread.join()

    def _show(self) -> None:
        shown = False
        while not self._done.wait(_PERIOD):
            text = self._text if isinstance(self._text, str) else self._text()
            print(f"\r\x1b[K{text} …", end="", file=sys.stderr, flush=True)
            shown = True
        if shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
