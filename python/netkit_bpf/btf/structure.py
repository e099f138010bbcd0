# SPDX-License-Identifier: MIT
"""How values of C structures and unions become named tuples, and back."""

from __future__ import annotations

import keyword
import struct
import sys
from collections import namedtuple
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from netkit_bpf.btf.codec import BYTES, Array, ByteArray, CharArray, Codec, Convert, Integer, copy, identifier


class Member(NamedTuple):
    """A member of a structure or union; `bits` is 0 unless it is a bit field. `offset` counts bits."""

    name: str
    codec: Codec
    offset: int
    bits: int = 0

    @property
    def span(self) -> range:
        """The bytes that hold it."""
        return range(self.offset // 8, (self.offset + (self.bits or self.codec.size * 8) + 7) // 8)


class Structure(Codec):
    """A structure or union: a named tuple of all members, those of unnamed members within among them.

    Takes a tuple, a dict in which what is missing is zero, or bytes. Members that share bytes must agree: of a union
    give one, in a dict. Python's keywords get an underscore behind them, and names lose underscores in front.
    """

    def __init__(self, name: str, size: int, members: Sequence[Member]) -> None:
        super().__init__(name, size, f"{size}s")
        self.members = tuple(members)
        self.fields = _field_names([member.name for member in members])
        self.tuple_type: Any = namedtuple(identifier(name), self.fields, module=__name__)  # type: ignore[misc]
        self._index = {member.name: index for index, member in enumerate(members)}
        self._index.update({field: index for index, field in enumerate(self.fields)})
        ends = [0, *(member.span.stop for member in members)]
        self._shares_bytes = any(
            member.bits or member.span.start < end for member, end in zip(members, ends, strict=False)
        )
        self._make = self._one_by_one() if self._shares_bytes else self._at_once()
        self.convert = self._make

    @property
    def tail(self) -> Member | None:
        """The flexible array at its end, where it has one."""
        last = self.members[-1] if self.members else None
        return last if last and isinstance(last.codec, (Array, CharArray, ByteArray)) and not last.codec.size else None

    def decode(self, data: bytes) -> Any:
        """The value that the bytes stand for; more of them are elements of the flexible array at its end."""
        tail = self.tail
        if tail is None or len(data) <= self.size:
            return super().decode(data)
        rest: Any = data[tail.offset // 8 :]
        if isinstance(tail.codec, Array):
            size = tail.codec.element.size or 1
            rest = tail.codec.elements(rest[: len(rest) // size * size])
        elif isinstance(tail.codec, CharArray):
            rest = rest.partition(b"\0")[0]
        return self._make(data[: self.size])._replace(**{self.fields[-1]: rest})

    def _at_once(self) -> Convert:
        """What makes the tuple where one format reads all members."""
        fmt = "="
        at = 0
        for member in self.members:
            fmt += f"{member.span.start - at}x{member.codec.format}"
            at = member.span.stop
        unpack = struct.Struct(f"{fmt}{self.size - at}x").unpack
        make = self.tuple_type._make
        converts = [(index, member.codec.convert) for index, member in enumerate(self.members) if member.codec.convert]
        if not converts:
            return lambda raw: make(unpack(raw))

        def convert_some(raw: bytes) -> Any:
            values = list(unpack(raw))
            for index, convert in converts:
                values[index] = convert(values[index])
            return make(values)

        return convert_some

    def _one_by_one(self) -> Convert:
        """What makes the tuple where members share bytes."""
        make = self.tuple_type._make
        getters = [_getter(member) for member in self.members]
        return lambda raw: make([get(raw) for get in getters])

    def _pack(self, buffer: bytearray, offset: int, value: Any, path: str) -> None:
        if isinstance(value, BYTES):
            copy(self, buffer, offset, value, path)
            return
        names = getattr(getattr(value, "dtype", None), "names", None)  # a record of numpy's
        if names is not None:
            value = {name: value[name] for name in names}
        if isinstance(value, Mapping):
            given = self._by_name(value, path)
        elif isinstance(value, (tuple, list)):
            if len(value) != len(self.members):
                raise ValueError(f"{path} must have {len(self.members)} fields ({self._listed()}), not {len(value)}")
            given = list(enumerate(value))
        else:
            raise TypeError(f"{path} must be a tuple or dict of {self._listed()}, not {type(value).__name__}")
        owners: list[str | None] = [None] * self.size
        for index, each in given:
            member = self.members[index]
            before = bytes(buffer[offset : offset + self.size]) if self._shares_bytes else b""
            _put(member, buffer, offset, each, f"{path}.{member.name}")
            if not self._shares_bytes or member.bits:
                continue
            for byte in member.span:
                if owners[byte] is not None and before[byte] != buffer[offset + byte]:
                    raise ValueError(
                        f"{path}.{member.name} and .{owners[byte]} share their bytes and differ: give one, in a dict"
                    )
                owners[byte] = member.name

    def _by_name(self, value: Mapping[Any, Any], path: str) -> list[tuple[int, Any]]:
        for name in value:
            if name not in self._index:
                raise ValueError(f"{path} has no field {name!r}; it has {self._listed()}")
        return [(self._index[name], each) for name, each in value.items()]

    def _listed(self) -> str:
        return ", ".join(member.name for member in self.members)


def _getter(member: Member) -> Convert:
    start, stop, convert = member.span.start, member.span.stop, member.codec.convert
    if not member.bits:
        unpack = struct.Struct("=" + member.codec.format).unpack_from
        if convert is None:
            return lambda raw: unpack(raw, start)[0]
        return lambda raw: convert(unpack(raw, start)[0])
    shift, mask = _place(member)
    signed = isinstance(member.codec, Integer) and member.codec.signed
    sign = 1 << member.bits - 1 if signed else 0

    is_number = type(member.codec) is Integer  # an enumeration's and a bool's conversions take numbers

    def get(raw: bytes) -> Any:
        number = ((int.from_bytes(raw[start:stop], sys.byteorder) >> shift & mask) ^ sign) - sign
        return number if is_number or convert is None else convert(number)

    return get


def _put(member: Member, buffer: bytearray, offset: int, value: Any, path: str) -> None:
    start, stop = offset + member.span.start, offset + member.span.stop
    if not member.bits:
        buffer[start:stop] = bytes(stop - start)
        member.codec._pack(buffer, start, value, path)
        return
    assert isinstance(member.codec, Integer)
    shift, mask = _place(member)
    number = member.codec._number(value, path, member.bits) & mask
    around = int.from_bytes(buffer[start:stop], sys.byteorder) & ~(mask << shift)
    buffer[start:stop] = (around | number << shift).to_bytes(stop - start, sys.byteorder)


def _place(member: Member) -> tuple[int, int]:
    """How far a bit field's bits are from the least significant one of the bytes that hold it, and its mask."""
    behind = member.offset - member.span.start * 8
    if sys.byteorder == "big":
        behind = len(member.span) * 8 - behind - member.bits
    return behind, (1 << member.bits) - 1


def _field_names(names: Sequence[str]) -> list[str]:
    fields: list[str] = []
    for index, name in enumerate(names):
        field = name.lstrip("_")
        if not field.isidentifier():
            field = f"field_{index}"
        if keyword.iskeyword(field):
            field += "_"
        while field in fields:
            field += f"_{index}"
        fields.append(field)
    return fields
