# SPDX-License-Identifier: MIT
"""Checks of arguments that several nouns take: bad input is refused before the kernel is asked."""

from __future__ import annotations

from typing import TypeVar

_T = TypeVar("_T")


def expect(value: object, kind: type[_T], argument: str, hint: str = "") -> _T:
    """Return the value; TypeError names the argument, what it takes and what it got."""
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        article = "an" if kind.__name__[0] in "aeiou" else "a"
        raise TypeError(
            f"{argument} must be {article} {kind.__name__}, not {type(value).__name__}{': ' + hint if hint else ''}"
        )
    return value


def expect_in(value: int, allowed: range, argument: str) -> int:
    """Return the value; ValueError names the argument and its range."""
    if expect(value, int, argument) not in allowed:
        raise ValueError(f"{argument} must be {allowed.start} to {allowed.stop - 1}, not {value}")
    return value


def expect_timeout(timeout: float | None) -> float | None:
    """Return the seconds, or None for no limit; ValueError for what is negative or no number."""
    if timeout is None:
        return None
    if not isinstance(timeout, float):
        expect(timeout, int, "timeout", "a number of seconds")
    if not timeout >= 0:  # refuses NaN too
        raise ValueError(f"timeout must be a number of seconds, 0 or more, or None, not {timeout!r}")
    return float(timeout)
