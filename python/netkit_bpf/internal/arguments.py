# SPDX-License-Identifier: MIT
"""Checks of arguments that several nouns take: bad input is refused before the kernel is asked."""

from __future__ import annotations

import mmap
from typing import Literal, NamedTuple, TypeVar

_T = TypeVar("_T")
_LONGEST = 1e9  # seconds: 31 years. Longer ones, math.inf among them, are for ever, and overflow nothing.
_MIB = 1 << 20
_NAME_MAX = 15  # IFNAMSIZ with its terminating zero is 16
_ALTERNATIVE_NAME_MAX = 127  # ALTIFNAMSIZ
# White space is what the kernel's isspace() says of a byte (lib/ctype.c): these and 0xa0, Latin-1's no-break space.
_NOT_IN_NAMES = "/:%\0\t\n\v\f\r "
_SPACE = 0xA0


def expect(value: object, kind: type[_T], argument: str, hint: str = "") -> _T:
    """Return the value; TypeError names the argument, what it takes and what it got."""
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        article = "an" if kind.__name__[0] in "aeiouAEIOU" else "a"
        raise TypeError(
            f"{argument} must be {article} {kind.__name__}, not {type(value).__name__}{': ' + hint if hint else ''}"
        )
    return value


def expect_in(value: object, allowed: range, argument: str) -> int:
    """Return the value; ValueError names the argument and its range."""
    number = expect(value, int, argument)
    if number not in allowed:
        raise ValueError(f"{argument} must be {allowed.start} to {allowed.stop - 1}, not {number}")
    return number


def check_device_name(name: str, argument: str) -> str:
    """Refuse what the kernel's dev_valid_name() refuses as a new name, and patterns, which name no device."""
    size = len(_raw_name(name, argument))
    if size > _NAME_MAX:
        raise ValueError(f"{argument} {name!r} has {size} bytes, a device name at most {_NAME_MAX}")
    if name in {".", "..", "all", "default"} or any(c in _NOT_IN_NAMES for c in name):
        raise ValueError(
            f"{argument} {name!r} must not contain '/', ':', '%', NUL or white space,"
            " nor be '.', '..', 'all' or 'default'"
        )
    if (bad := next((c for c in name if _SPACE in c.encode()), None)) is not None:
        raise ValueError(
            f"{argument} {name!r} must not contain {bad!r}: one of its bytes is 0xa0, which the kernel takes for white"
            " space"
        )
    return name


def check_known_name(name: str, argument: str) -> str:
    """Refuse what cannot be a device's name or alternative name, which can be nearly any text."""
    size = len(_raw_name(name, argument))
    if size > _ALTERNATIVE_NAME_MAX:
        raise ValueError(
            f"{argument} {name!r} has {size} bytes, an alternative device name at most {_ALTERNATIVE_NAME_MAX}"
        )
    if "\0" in name:
        raise ValueError(f"{argument} {name!r} must not contain NUL")
    return name


def _raw_name(name: str, argument: str) -> bytes:
    if not expect(name, str, argument):
        raise ValueError(f"{argument} is empty: a device needs a name")
    try:
        return name.encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"{argument} {name!r} is no UTF-8: take a device that has it by its ifindex, and give it another"
        ) from None


def expect_timeout(timeout: float | None, argument: str = "timeout") -> float | None:
    """Return the seconds, or None for no limit; ValueError for what is negative or no number."""
    if timeout is None:
        return None
    if not isinstance(timeout, float):
        expect(timeout, int, argument, "a number of seconds")
    if not timeout >= 0:  # refuses NaN too
        raise ValueError(f"{argument} must be a number of seconds, 0 or more, or None, not {timeout!r}")
    return None if timeout > _LONGEST else float(timeout)


Rings = Literal["shared", "percpu", "ordered"]
Thread = Literal["shared", "own"]


class StreamOptions(NamedTuple):
    """How ring buffers are read: the options that all readers have.

    Attributes:
        queue_size: bytes of records that may wait for Python behind the rings.
        rings: whether all CPUs share a ring, each has one, or each has one and the reader puts their records in order.
        thread: which thread empties the rings: that of all readers, one of this reader's own, or that which reads.
    """

    queue_size: int = 16 * _MIB
    rings: Rings = "shared"
    thread: Thread | None = "shared"

    def check(self) -> StreamOptions:
        """Return it; TypeError or ValueError for what is not possible, whatever the kernel."""
        if expect(self.queue_size, int, "queue_size") < mmap.PAGESIZE:
            raise ValueError(f"queue_size must be at least {mmap.PAGESIZE} bytes, not {self.queue_size}")
        expect_one(self.rings, ("shared", "percpu", "ordered"), "rings")
        expect_one(self.thread, ("shared", "own", None), "thread")
        return self


def expect_one(value: object, allowed: tuple[str | None, ...], argument: str) -> None:
    """Refuse what is none of the allowed values: ValueError names the argument and all of them."""
    if not any(value is each or (isinstance(value, str) and value == each) for each in allowed):
        names = [repr(each) for each in allowed]
        raise ValueError(f"{argument} must be {', '.join(names[:-1])} or {names[-1]}, not {value!r}")
