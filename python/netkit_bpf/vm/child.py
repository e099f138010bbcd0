# SPDX-License-Identifier: MIT
"""Processes that end with this one, however it ends."""

from __future__ import annotations

import ctypes
import functools
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1


class ChildError(Exception):
    """A program failed; the text has the end of its output."""


def bound() -> Callable[[], None]:
    """Return a `preexec_fn` by which the kernel kills the child when this process ends, even by SIGKILL.

    Only for a process with one thread, because no lock may be held between fork and exec.
    """
    return functools.partial(_bind, os.getpid())


def _bind(parent: int) -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it ended before the call
        os._exit(1)


def run(*words: str, cwd: Path | None = None, shows_progress: bool = False) -> str:
    """Run a program to its end and return its output. One that shows its progress does so on a terminal, if any."""
    if shows_progress and sys.stderr.isatty():
        if subprocess.run(words, cwd=cwd, stdout=sys.stderr, check=False, preexec_fn=bound()).returncode:
            raise ChildError(f"{words[0]} failed")
        return ""
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=False, preexec_fn=bound())
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise ChildError(f"{words[0]} failed: {'; '.join(said[:3]) or f'status {done.returncode}'}")
    return done.stdout
