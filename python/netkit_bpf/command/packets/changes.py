# SPDX-License-Identifier: MIT
"""Lines on standard error about pairs that come and go while a monitor runs."""

from __future__ import annotations

import contextlib
import threading
import time

from netkit_bpf.command.output import note
from netkit_bpf.functions.monitor import Monitor


class ChangeNotes:
    """Tells of each pair that is watched from its making on, or no longer, once it is started. Closes the monitor."""

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor
        self._thread: threading.Thread | None = None
        self._changes = monitor.changes()
        self._start_ns = time.time_ns()

    def start(self) -> None:
        """Tell from now on, of what happened before too."""
        self._thread = threading.Thread(target=self._run, name="netkit-changes", daemon=True)
        self._thread.start()

    def __enter__(self) -> ChangeNotes:
        return self

    def __exit__(self, *_: object) -> None:
        self._monitor.close()
        if self._thread is not None:
            self._thread.join()
        self._changes.close()

    def _run(self) -> None:
        with contextlib.suppress(ValueError):  # closed
            for change in self._changes:
                if change.time_ns >= self._start_ns:
                    note(str(change))
