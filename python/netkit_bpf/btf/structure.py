# SPDX-License-Identifier: MIT
"""How values of C structures and unions become named tuples, and back."""

from __future__ import annotations

import functools
import itertools
import keyword
import struct
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from netkit_bpf.btf.codec import BYTES, Array, ByteArray, CharArray, Codec, Convert, Integer, copy, identifier
from netkit_bpf.btf.record import WholeRecord, record_class, whole_class

_LARGEST_TOLD = 1 << 16  # bytes; of larger ones it is not looked at


class Member(NamedTuple):
    """A member of a structure or union; `bits` is 0 unless it is a bit field. `offset` counts bits."""

    name: str
    codec: Codec
    offset: int
    bits: int = 0

    @property
    def place(self) -> range:
        """The bits that hold it."""
        return range(self.offset, self.offset + (self.bits or self.codec.size * 8))

    @property
    def span(self) -> range:
        """The bytes that hold it."""
        return range(self.offset // 8, (self.place.stop + 7) // 8)


class Structure(Codec):
    """A structure or union: a named tuple of all members, including those of unnamed members.

    Takes a tuple, a dict (missing members are zero), or bytes. Members that share bytes must agree: give only one
    member of a union, in a dict. A value that was read is written back unchanged. Names that are Python keywords get an
    underscore at the end, and underscores at the start of names are removed; where that is another member's name, the
    number of the member follows. Dicts may have the names of C, too.

    `tails` are the indices of the members that can extend beyond the end of the structure: the flexible array at its
    end, or each such array of a union there.
    """

    def __init__(self, name: str, size: int, members: Sequence[Member], tails: Sequence[int] = ()) -> None:
        super().__init__(name, size, f"{size}s")
        self.members = tuple(members)
        self.tails = tuple(tails)
        self.fields = _field_names([member.name for member in members])
        self._index = {field: index for index, field in enumerate(self.fields)}
        self._index.update({member.name: index for index, member in enumerate(members)})
        ends = [0, *(member.place.stop for member in members)]
        # As in a union: a member changes with another, and not every byte need belong to one.
        self._keeps_bytes = any(
            member.place.start < end for member, end in zip(members, itertools.accumulate(ends, max), strict=False)
        )
        self._shares_bytes = self._keeps_bytes or any(member.bits for member in members)
        del self.convert  # made on first use: never for unnamed members

    @functools.cached_property
    def is_exact(self) -> bool:  # type: ignore[override]
        """Whether the members determine every byte."""
        if self.size > _LARGEST_TOLD:
            return False
        told = bytearray(self.size)
        for member in self.members:
            if member.bits:
                return False  # the bits between
            told[member.span.start : member.span.stop] = b"\1" * len(member.span)
        return all(told) and all(member.codec.is_exact for member in self.members)

    @functools.cached_property
    def tuple_type(self) -> Any:
        """The class of the named tuples."""
        name = identifier(self.name)
        return whole_class(name, self.fields) if self._keeps_bytes else record_class(name, self.fields)

    @functools.cached_property
    def convert(self) -> Convert:  # type: ignore[override]
        """The function that makes the named tuple from the bytes."""
        return self._one_by_one() if self._shares_bytes else self._at_once()

    @functools.cached_property
    def least(self) -> int:
        """The smallest size of a value in bytes: with an empty flexible array."""
        if not self.tails:
            return self.size
        return max((_least_end(member, index in self.tails) for index, member in enumerate(self.members)), default=0)

    def decode(self, data: bytes) -> Any:
        """The value that the bytes stand for; a flexible array takes all bytes from its offset on.

        That offset may lie within the structure's padding, so values can be shorter than the structure.
        """
        if not self.tails:
            return super().decode(data)
        if len(data) < self.least:
            raise ValueError(f"{self.name} takes {self.least} bytes at least, not {len(data)}")
        values = list(self.convert(data[: self.size].ljust(self.size, b"\0")))
        for index in self.tails:
            member = self.members[index]
            rest = data[member.offset // 8 :]
            codec: Any = member.codec
            values[index] = codec.decode(rest) if isinstance(codec, Structure) else codec.elements(rest)
        return record_class(identifier(self.name), self.fields)._make(values)

    def of_bytes(self, size: int) -> Structure:
        """The structure with its flexible array sized to fill so many bytes, as an initialised variable has it."""
        members = list(self.members)
        for index in self.tails:
            codec: Any = members[index].codec
            members[index] = members[index]._replace(codec=codec.of_bytes(size - members[index].offset // 8))
        return Structure(self.name, size, members)

    def whole(self, value: Any, raw: bytes) -> Any:
        """The value, made to be written back as these bytes."""
        record = whole_class(identifier(self.name), self.fields)._make(value)
        record._bytes, record._codec = raw, self
        return record

    def replaced(self, raw: bytes, changes: Mapping[str, Any]) -> Any:
        """The value of these bytes with some members changed."""
        buffer = bytearray(raw)
        self._put_members(buffer, 0, self._by_name(changes, self.name), self.name)
        return self.whole(self.convert(bytes(buffer)), bytes(buffer))

    def _at_once(self) -> Convert:
        """The function that makes the tuple where one format reads all members."""
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
        """The function that makes the tuple where members share bytes."""
        make = self.tuple_type._make
        getters = [getter(member) for member in self.members]
        if not self._keeps_bytes:
            return lambda raw: make([get(raw) for get in getters])

        def make_whole(raw: bytes) -> Any:
            record = make([get(raw) for get in getters])
            record._bytes, record._codec = raw, self
            return record

        return make_whole

    def _pack(self, buffer: bytearray, offset: int, value: Any, path: str) -> None:
        if isinstance(value, BYTES):
            copy(self, buffer, offset, value, path)
            return
        raw = value._bytes if isinstance(value, WholeRecord) else None
        # The bytes of another type's value would mean something else.
        if raw is not None and len(raw) == self.size and repr(self.convert(raw)) == repr(value):
            buffer[offset : offset + self.size] = raw
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
        self._put_members(buffer, offset, given, path)

    def _put_members(self, buffer: bytearray, offset: int, given: Sequence[tuple[int, Any]], path: str) -> None:
        taken = bytearray(self.size)  # the bits that a member was put into
        for index, each in given:
            member = self.members[index]
            start, stop = member.span.start, member.span.stop
            before = _number(buffer[offset + start : offset + stop]) if self._keeps_bytes else 0
            _put(member, buffer, offset, each, f"{path}.{member.name}")
            if not self._keeps_bytes:
                continue
            others = _number(taken[start:stop])
            if changed := (before ^ _number(buffer[offset + start : offset + stop])) & others:
                at = changed.bit_length() - 1
                bit = start * 8 + at if sys.byteorder == "little" else stop * 8 - at - 1
                other = next(self.members[index].name for index, _ in given if bit in self.members[index].place)
                raise ValueError(f"{path}.{member.name} and .{other} share their bytes and differ: give one, in a dict")
            shift, mask = _place(member)
            taken[start:stop] = (others | mask << shift).to_bytes(stop - start, sys.byteorder)

    def _by_name(self, value: Mapping[Any, Any], path: str) -> list[tuple[int, Any]]:
        for name in value:
            if name not in self._index:
                raise ValueError(f"{path} has no field {name!r}; it has {self._listed()}")
        return [(self._index[name], each) for name, each in value.items()]

    def _listed(self) -> str:
        return ", ".join(member.name for member in self.members)


def getter(member: Member) -> Convert:
    """The function that reads the member from the bytes of its structure."""
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
        number = ((_number(raw[start:stop]) >> shift & mask) ^ sign) - sign
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
    around = _number(buffer[start:stop]) & ~(mask << shift)
    buffer[start:stop] = (around | number << shift).to_bytes(stop - start, sys.byteorder)


def _place(member: Member) -> tuple[int, int]:
    """The shift of a member from the least significant bit of the bytes that hold it, and its mask."""
    bits = len(member.place)
    behind = member.offset - member.span.start * 8
    if sys.byteorder == "big":
        behind = len(member.span) * 8 - behind - bits
    return behind, (1 << bits) - 1


def _number(data: bytes | bytearray) -> int:
    return int.from_bytes(data, sys.byteorder)


def _least_end(member: Member, is_tail: bool) -> int:
    """Where a member ends at the earliest."""
    if not is_tail or not isinstance(member.codec, Structure):
        return member.span.stop
    return member.offset // 8 + member.codec.least


def is_flexible(codec: Codec) -> bool:
    """Whether values may be longer than the type: an array without a length, or a type that ends with one."""
    if isinstance(codec, Structure):
        return bool(codec.tails)
    if isinstance(codec, Array):
        return codec.count == 0
    return isinstance(codec, (CharArray, ByteArray)) and codec.size == 0


def _field_names(names: Sequence[str]) -> tuple[str, ...]:
    fields: dict[str, None] = {}  # in order
    for index, name in enumerate(names):
        field = name.lstrip("_")
        if not field.isidentifier():
            field = f"field_{index}"
        if keyword.iskeyword(field):
            field += "_"
        while field in fields or (field != name and field in names):
            field += f"_{index}"
        fields[field] = None
    return tuple(fields)
