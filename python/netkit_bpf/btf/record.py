# SPDX-License-Identifier: MIT
"""The named tuples and enumerations that stand for values of C types.

Their classes are made at run time, so they cannot be imported: pickling an object stores the name and the fields of its
class, and unpickling makes the class again.
"""

from __future__ import annotations

import enum
import functools
from collections import namedtuple
from typing import Any

_KEPT = 1024  # classes that are kept, so that all records of a type have the same class


class Record:
    """The methods of the named tuples. They are immutable, and so are their fields."""

    __slots__ = ()
    _fields: tuple[str, ...]

    def __reduce__(self) -> Any:
        return _rebuild, (type(self).__name__, self._fields, tuple(self))  # type: ignore[arg-type]

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: Any) -> Any:
        return self


class WholeRecord(Record):
    """A record that keeps the bytes it was decoded from, because its fields share them or do not determine all of them.

    It is written back unchanged. Replacing a field changes only the bytes of that field, so the other members of a
    union change with it. Two of them are equal if their bytes are, too: as keys of a map they are different elements.
    """

    _bytes: bytes | None = None
    _codec: Any = None  # of the bytes; None after unpickling

    def __eq__(self, other: object) -> Any:
        if isinstance(other, WholeRecord) and self._bytes and other._bytes:
            return self._bytes == other._bytes and super().__eq__(other)
        return super().__eq__(other)

    def __ne__(self, other: object) -> Any:
        return not self == other

    def __hash__(self) -> int:
        return super().__hash__()  # that of a tuple, which it may be equal to

    def __reduce__(self) -> Any:
        return _rebuild_whole, (type(self).__name__, self._fields, tuple(self), self._bytes)  # type: ignore[arg-type]

    def _replace(self, /, **changes: Any) -> Any:
        if self._bytes is None or self._codec is None:
            return super()._replace(**changes)  # type: ignore[misc]
        return self._codec.replaced(self._bytes, changes)

    __replace__ = _replace  # of copy.replace(), Python 3.13


@functools.lru_cache(_KEPT)
def record_class(name: str, fields: tuple[str, ...]) -> Any:
    """The class of records of this name and these fields."""
    return type(name, (Record, namedtuple(name, fields)), {"__slots__": (), "__module__": __name__})


@functools.lru_cache(_KEPT)
def whole_class(name: str, fields: tuple[str, ...]) -> Any:
    """The class of records that keep their bytes."""
    return type(name, (WholeRecord, record_class(name, fields)), {"__module__": __name__})


@functools.lru_cache(_KEPT)
def enumeration_class(name: str, members: tuple[tuple[str, int], ...]) -> Any:
    """An IntEnum of these members; TypeError, ValueError or AttributeError where Python cannot have one."""
    make: Any = enum.IntEnum
    made = make(name, members, module=__name__)
    made.__reduce_ex__ = lambda self, _protocol: (_rebuild_member, (name, members, int(self)))
    made.__copy__ = lambda self: self
    made.__deepcopy__ = lambda self, _memo: self
    return made


def _rebuild(name: str, fields: tuple[str, ...], values: tuple[Any, ...]) -> Any:
    return record_class(name, fields)._make(values)


def _rebuild_whole(name: str, fields: tuple[str, ...], values: tuple[Any, ...], raw: bytes | None) -> Any:
    record = whole_class(name, fields)._make(values)
    record._bytes = raw
    return record


def _rebuild_member(name: str, members: tuple[tuple[str, int], ...], number: int) -> Any:
    return enumeration_class(name, members)(number)
