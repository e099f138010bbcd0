# SPDX-License-Identifier: MIT
"""What ends a command that watches a pair."""

from __future__ import annotations

import signal
from types import FrameType

from netkit_bpf.functions.monitor import Monitor


class Stop:
    """Ctrl-C, SIGTERM and a closed terminal end the monitor and nothing else, so that what was made is removed."""

    def __init__(self) -> None:
        self.requested = False
        self.monitor: Monitor | None = None
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup(1)
            signal.signal(signal.SIGHUP, self)

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        """Handle a signal."""
        self.requested = True
        if self.monitor is not None:
            self.monitor.close()
