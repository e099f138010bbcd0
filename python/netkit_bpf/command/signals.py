# SPDX-License-Identifier: MIT
"""Signals that end a command."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    import subprocess

    from netkit_bpf.functions.monitor import Monitor
    from netkit_bpf.functions.verdict_reader import VerdictReader


class Stop:
    """Ctrl-C, SIGTERM and a closed terminal end the monitor and nothing else, so that what was made is removed.

    A second one ends a wait for a reader that takes no more output: the rest is dropped. It also kills the child, which
    was only asked to end before.
    """

    def __init__(self) -> None:
        self.requested = False
        self.monitor: Monitor | VerdictReader | None = None
        self.output: int | None = None  # its descriptor
        self.child: subprocess.Popen[bytes] | None = None
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup(1)
            signal.signal(signal.SIGHUP, self)

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        """Handle a signal."""
        if self.requested and self.output is not None:
            # Python writes again to the descriptor whose wait the signal interrupted (PEP 475).
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.output)
            os.close(nowhere)
        if self.requested and self.child is not None:
            self.child.kill()
        self.requested = True
        if self.monitor is not None:
            self.monitor.close()


@contextmanager
def until_closed(monitor: Monitor) -> Iterator[None]:
    """Let a capture end also if the monitor is closed before it begins, which is an error: a signal may come first."""
    try:
        yield
    except ValueError:
        if not monitor.closed:
            raise


def interrupt_on_signals() -> None:
    """Let SIGTERM and a closed terminal raise KeyboardInterrupt, as Ctrl-C does, so that what was made is removed."""
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup(1)
        signal.signal(signal.SIGHUP, _interrupt)


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
