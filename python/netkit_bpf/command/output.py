# SPDX-License-Identifier: MIT
"""What the command writes: results to standard output, all else to standard error."""

from __future__ import annotations

import contextlib
import os
import sys


def note(text: str) -> None:
    """Write a diagnostic; to nowhere if there is no standard error, and never among the results."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            print(f"netkit-bpf: {text}", file=sys.stderr)


def say(line: str) -> None:
    """Write a line to standard output now, for whoever reads along."""
    try:
        print(line, flush=True)
    except OSError as error:
        # What is still buffered must not fail once more when the interpreter exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise
        raise OSError(error.errno, f"write to standard output: {error.strerror}") from None
