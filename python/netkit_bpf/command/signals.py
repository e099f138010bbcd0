# SPDX-License-Identifier: MIT
"""What ends a command that watches a pair."""

from __future__ import annotations

import os
import signal
from types import FrameType

from netkit_bpf.functions.monitor import Monitor


class Stop:
    """Ctrl-C, SIGTERM and a closed terminal end the monitor and nothing else, so that what was made is removed.

    A second one ends a wait for whoever reads the output and takes no more of it: the rest goes to nowhere.
    """

    def __init__(self) -> None:
        self.requested = False
        self.monitor: Monitor | None = None
        self.output: int | None = None  # its descriptor
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
        self.requested = True
        if self.monitor is not None:
            self.monitor.close()
