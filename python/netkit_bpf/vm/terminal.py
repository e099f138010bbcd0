# SPDX-License-Identifier: MIT
"""A shell in the guest on the caller's terminal."""

from __future__ import annotations

import contextlib
import os
import shlex
import termios
import tty
from collections.abc import Iterator, Sequence


def on_a_terminal(command: Sequence[str]) -> list[str]:
    """The command on a terminal of the guest's, of the size of the caller's, and with its colors.

    The guest has only pipes to the host, so script(1), which each Debian has, makes a terminal.
    """
    setting = "stty sane"
    if os.isatty(0):
        columns, rows = os.get_terminal_size(0)
        setting += f" rows {rows} cols {columns}"
    return ["script", "-qefc", f"{setting}; exec {shlex.join(command)}", "/dev/null"]


@contextlib.contextmanager
def passed_through() -> Iterator[None]:
    """Let the caller's terminal, if any, pass on each key, Ctrl-C too: the guest's terminal gives it a meaning."""
    if not os.isatty(0):
        yield
        return
    before = termios.tcgetattr(0)
    tty.setraw(0, termios.TCSADRAIN)  # what was typed ahead is kept
    try:
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)
