# SPDX-License-Identifier: MIT
"""What ends a command, signals and the end of its pair; and what asks it something."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from netkit_bpf.enums import ChangeKind

if TYPE_CHECKING:
    import subprocess

    from netkit_bpf.devices.pair import NetkitPair
    from netkit_bpf.functions.metrics import FlowMetrics
    from netkit_bpf.functions.monitor import Monitor
    from netkit_bpf.functions.verdict_reader import VerdictReader

CHECK_EVERY = 1.0  # seconds: how soon it is noticed that a pair is gone


class Stop:
    """Ctrl-C, SIGTERM and a closed terminal end the monitor and nothing else, so that what was made is removed.

    A second one ends a wait for a reader that takes no more output: the rest is dropped. It also kills the child, which
    was only asked to end before. SIGUSR1 asks for a report, and SIGUSR2 for nothing that is not always so, as of
    tcpdump(8): packets are written at once.
    """

    def __init__(self) -> None:
        self.requested = False
        self.monitor: Monitor | VerdictReader | None = None
        self.output: int | None = None  # its descriptor
        self.child: subprocess.Popen[bytes] | None = None
        self.report: Callable[[], None] | None = None
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup(1)
            signal.signal(signal.SIGHUP, self)
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, self._ask)

    def _ask(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGUSR1 and self.report is not None:
            self.report()

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


@contextmanager
def deletion_of(pair: NetkitPair, what: str) -> Iterator[Callable[[], None]]:
    """Give a function that raises ENODEV once the pair was deleted, in the name of what is attached to it.

    It does not for a pair that was moved: that keeps its programs. Nor for one that this process may not watch.
    """
    try:
        watch = pair.watch()
    except PermissionError:
        yield lambda: None
        return
    name = pair.primary.name

    def check() -> None:
        while (change := watch.read(0)) is not None:
            if change.kind is ChangeKind.DELETED:
                advice = "the device or its network namespace was deleted"
                raise OSError(errno.ENODEV, f"{what} {name}: {os.strerror(errno.ENODEV)} ({advice})")

    with watch:
        yield check


def expect_pair(metrics: FlowMetrics) -> None:
    """ENODEV once none of the pairs is left whose flows are counted."""
    gone = None
    for observer in metrics.observers:
        try:
            observer.check()
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise
            gone = error
        else:
            return
    if gone is not None:
        raise gone
