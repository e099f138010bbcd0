# SPDX-License-Identifier: MIT
"""Checks of arguments that several nouns take: bad input is refused before the kernel is asked."""

from __future__ import annotations

import enum
import mmap
import sys
from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeVar, cast

from netkit_bpf.enums import Side

_T = TypeVar("_T")
_E = TypeVar("_E", bound=enum.Enum)
_LONGEST = 1e9  # seconds: 31 years. Longer timeouts, also math.inf, wait for ever, so that nothing overflows.
_MIB = 1 << 20
_PACKAGE = "netkit_bpf."
_NAME_MAX = 15  # IFNAMSIZ with its terminating zero is 16
_ALTERNATIVE_NAME_MAX = 127  # ALTIFNAMSIZ
# White space by the kernel's isspace() (lib/ctype.c): these bytes and 0xa0, Latin-1's no-break space.
_NOT_IN_NAMES = "/:%\0\t\n\v\f\r "
_SPACE = 0xA0


def expect(value: object, kind: type[_T], argument: str, hint: str = "") -> _T:
    """Return the value; a TypeError names the argument, the expected type and the type that was given."""
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        article = "an" if kind.__name__[0] in "aeiouAEIOU" else "a"
        raise TypeError(
            f"{argument} must be {article} {kind.__name__}, not {type(value).__name__}{': ' + hint if hint else ''}"
        )
    return value


def expect_text(value: object, argument: str) -> str:
    """Return the value; ValueError if it has what is no character, as file names have that are not UTF-8."""
    text = expect(value, str, argument)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{argument} has {text[error.start]!a} at position {error.start}, which is no character"
        ) from None
    return text


def expect_in(value: object, allowed: range, argument: str) -> int:
    """Return the value; ValueError names the argument and its range."""
    number = expect(value, int, argument)
    if number not in allowed:
        raise ValueError(f"{argument} must be {allowed.start} to {allowed.stop - 1}, not {number}")
    return number


def users_level() -> int:
    """The stacklevel by which warnings.warn() names the line that called this package, from where this is called."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and f"{frame.f_globals.get('__name__')}.".startswith(_PACKAGE):
        frame, level = frame.f_back, level + 1
    return level


def expect_power_of_two(value: object, least: int, most: int, argument: str) -> int:
    """Return the value; ValueError names the argument and its range."""
    number = expect(value, int, argument)
    if not least <= number <= most or number & (number - 1):
        raise ValueError(f"{argument} must be a power of two from {least} to {most}, not {number}")
    return number


def expect_word(value: object, kind: type[_E], argument: str) -> _E:
    """Return the member that the value is or names; ValueError names the argument and the choices."""
    try:
        return kind(value)
    except ValueError:
        choices = " or ".join(repr(member.value) for member in kind)
        raise ValueError(f"{argument} must be {choices}, not {value!r}") from None


def expect_sides(sides: object) -> tuple[Side, ...]:
    """Return the sides of a pair, given one name or several; ValueError if there is none, or one twice."""
    if isinstance(sides, str):
        sides = (sides,)
    expect(sides, Sequence, "sides")  # type: ignore[type-abstract]
    parsed = tuple(expect_word(side, Side, "sides") for side in cast("Sequence[object]", sides))
    if not parsed or len(set(parsed)) != len(parsed):
        raise ValueError("sides must name one or both sides, each once")
    return parsed


def check_device_name(name: str, argument: str) -> str:
    """Refuse new names that the kernel's dev_valid_name() refuses, and patterns such as nk%d."""
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
            f"{argument} {name!r} must not contain {bad!r}: one of its bytes is 0xa0, which the kernel treats as white"
            " space"
        )
    return name


def check_known_name(name: str, argument: str) -> str:
    """Refuse text that cannot be a device's name or alternative name. The latter can be nearly any text."""
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
            f"{argument} {name!r} is not UTF-8: open a device that has it by its ifindex, and rename it"
        ) from None


def expect_timeout(timeout: float | None, argument: str = "timeout") -> float | None:
    """Return the seconds, or None for no limit; ValueError for a negative number or NaN."""
    if timeout is None:
        return None
    if not isinstance(timeout, float):
        expect(timeout, int, argument, "a number of seconds")
    if not timeout >= 0:  # refuses NaN too
        raise ValueError(f"{argument} must be a number of seconds, 0 or more, or None, not {timeout!r}")
    return None if timeout > _LONGEST else float(timeout)


def expect_interval(interval: float) -> float:
    """Return the seconds between two drawings; ValueError if it is not a number of seconds greater than 0."""
    seconds = expect_timeout(interval, "interval")
    if not seconds:
        raise ValueError(f"interval must be a number of seconds greater than 0, not {interval!r}")
    return seconds


Rings = Literal["shared", "percpu", "ordered"]
Thread = Literal["shared", "own"]


class StreamOptions(NamedTuple):
    """How ring buffers are read: the options that all readers have.

    Attributes:
        queue_size: bytes of records that may wait for Python behind the rings.
        rings: "shared", one ring for all CPUs; "percpu", one for each; "ordered", one for each, and the reader sorts
            their records by time.
        thread: which thread empties the rings: the one that all readers share, the reader's own, or the one that calls
            it.
    """

    queue_size: int = 16 * _MIB
    rings: Rings = "shared"
    thread: Thread | None = "shared"

    def check(self) -> StreamOptions:
        """Return it; TypeError or ValueError for options that no kernel could take."""
        if expect(self.queue_size, int, "queue_size") < mmap.PAGESIZE:
            raise ValueError(f"queue_size must be at least {mmap.PAGESIZE} bytes, not {self.queue_size}")
        expect_one(self.rings, ("shared", "percpu", "ordered"), "rings")
        expect_one(self.thread, ("shared", "own", None), "thread")
        return self


def expect_one(value: object, allowed: tuple[str | None, ...], argument: str) -> None:
    """Refuse any other value than the allowed ones: the ValueError names the argument and all of them."""
    if not any(value is each or (isinstance(value, str) and value == each) for each in allowed):
        names = [repr(each) for each in allowed]
        raise ValueError(f"{argument} must be {', '.join(names[:-1])} or {names[-1]}, not {value!r}")
