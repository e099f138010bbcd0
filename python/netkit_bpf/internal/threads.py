# SPDX-License-Identifier: MIT
"""Starting threads: a failure is an OSError, like any other refusal by the kernel."""

from __future__ import annotations

import errno
import os
import threading


def start(thread: threading.Thread, operation: str) -> None:
    """Start the thread.

    Raises:
        OSError: EAGAIN, the kernel has no more threads for this process (Python would raise a RuntimeError).
    """
    try:
        thread.start()
    except RuntimeError as error:
        if thread.ident is not None:
            raise
        reason = "a limit of processes (ulimit -u, pids.max of the cgroup) or of memory is reached"
        text = f"{operation}: {os.strerror(errno.EAGAIN)} ({reason})"
        raise BlockingIOError(errno.EAGAIN, text) from error
