# SPDX-License-Identifier: MIT
"""Names that are unique among test runs, and among the workers of this one."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def prefix() -> str:
    """What all names of this process begin with: pytest-xdist's worker and the process id.

    Workers can run in PID namespaces of their own, so neither is enough.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
    return f"nk{worker[:2]}-{_base36(os.getpid())}-"


def names() -> Callable[[], str]:
    """Return a function that gives a new name at each call.

    A device name has 15 bytes, one of them for the peer's "p": 2 for "nk", 2 for the worker, 5 for a process
    id of 22 bits, 2 hyphens, and 3 for 46,655 names.
    """
    numbers = itertools.count(1)
    return lambda: prefix() + _base36(next(numbers))


def _base36(number: int) -> str:
    text = ""
    while number:
        number, digit = divmod(number, 36)
        text = _DIGITS[digit] + text
    return text or "0"
