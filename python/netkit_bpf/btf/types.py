# SPDX-License-Identifier: MIT
"""C types as BTF describes them: Documentation/bpf/btf.rst."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NamedTuple, Protocol

from netkit_bpf.btf.addresses import IPV4_BYTES, IPV6_BYTES, Address
from netkit_bpf.btf.codec import (
    Array,
    Bool,
    ByteArray,
    Char,
    CharArray,
    Codec,
    Enumeration,
    Float,
    Integer,
    Opaque,
    Order,
    Raw,
    dimensioned,
)
from netkit_bpf.btf.structure import Member, Structure, is_flexible

_INT, _PTR, _ARRAY, _STRUCT, _UNION, _ENUM = range(1, 7)
_TYPEDEF, _VOLATILE, _CONST, _RESTRICT = range(8, 12)
_FLOAT, _TYPE_TAG, _ENUM64 = 16, 18, 19
_MODIFIERS = (_VOLATILE, _CONST, _RESTRICT, _TYPE_TAG)
_SIGNED, _CHAR, _BOOL = 1, 2, 4  # BTF_INT_SIGNED and its like
_POINTER = 8
_LARGE_ENUM = 8
_LARGEST_ERRNO = 4095
_LARGEST_U32 = (1 << 32) - 1
_LARGEST_U64 = (1 << 64) - 1
_DEEPEST = 64  # nesting of types: deeper than real programs, but safe for Python's stack
_MOST_MEMBERS = 4096  # members of a structure, including those of unnamed members: 16 times the kernel's largest

# Names of types in network byte order: the kernel's (include/uapi/linux/types.h) and the C library's.
_ORDERED: dict[str, tuple[int, Order]] = {
    **{f"__be{bits}": (bits // 8, "big") for bits in (16, 32, 64)},
    **{f"__le{bits}": (bits // 8, "little") for bits in (16, 32, 64)},
    "in_port_t": (2, "big"),
    "in_addr_t": (4, "big"),
}
_IPV4_NAMES = ("__be32", "in_addr_t")
_ADDRESS_STRUCTURES = {"in_addr": IPV4_BYTES, "in6_addr": IPV6_BYTES}

RawMember = tuple[str, int, int, int, int]
RawType = tuple[int, str, int, int, int, int, int, tuple[RawMember, ...]]


class TypeTable(Protocol):
    """Numbered types as plain data: `_core.BtfTypes`."""

    def get(self, id: int) -> RawType: ...  # noqa: A002, D102
    def find(self, name: str, kind: int) -> int: ...  # noqa: D102


class _Type(NamedTuple):
    kind: int
    name: str
    size: int
    type: int
    encoding: int
    bits: int
    bit_offset: int
    members: tuple[RawMember, ...]


class Types:
    """The types of one object, by number or name, as codecs.

    Any thread may use it: if two threads build the same codec at once, both get the first one.
    """

    def __init__(self, table: TypeTable) -> None:
        self._table = table
        self._built: dict[int, Codec] = {}

    def codec(self, number: int, depth: int = 0) -> Codec:
        """The codec of the type with this number, nested in `depth` others; ValueError if that is too deep."""
        built = self._built.get(number)
        if built is None:
            if depth > _DEEPEST:
                raise ValueError(f"the object's BTF nests types more than {_DEEPEST} deep")
            built = self._built.setdefault(number, self._build(self._get(number), "", depth + 1))
        return built

    def find(self, name: str) -> Codec:
        """The type of this name, as `number` finds it."""
        return self.codec(self.number(name))

    def number(self, name: str) -> int:
        """The number of a type: "struct event", "union address", "enum kind", or without the word in front.

        Raises:
            LookupError: there is no such type; BTF holds only types that a function, map or variable mentions.
        """
        wanted, words = name, name.split()
        kinds = {"struct": [_STRUCT], "union": [_UNION], "enum": [_ENUM, _ENUM64]}.get(words[0] if words else "")
        if kinds is None:
            kinds = [_TYPEDEF, _STRUCT, _UNION, _ENUM, _ENUM64, _INT, _FLOAT]
        else:
            name = " ".join(words[1:])
        for kind in kinds if name else ():
            if number := self._table.find(name, kind):
                return number
        raise LookupError(
            f"the object has no type {wanted!r}: its BTF holds only types that a map, variable or"
            " function mentions, as __type(value, ...) in the definition of a ring buffer does"
        )

    def _get(self, number: int) -> _Type:
        return _Type(*self._table.get(number))

    def _build(self, kind: _Type, alias: str, depth: int) -> Codec:
        if kind.kind == _TYPEDEF or kind.kind in _MODIFIERS:
            if kind.kind == _TYPEDEF and kind.name in _ORDERED:
                return _build_ordered(kind.name, self.codec(kind.type, depth))
            alias = kind.name if kind.kind == _TYPEDEF else alias
            target = self._get(kind.type)
            is_nameless = not target.name and target.kind in (_STRUCT, _UNION, _ENUM, _ENUM64, *_MODIFIERS)
            return self._build(target, alias, depth) if is_nameless else self.codec(kind.type, depth)
        builders: dict[int, Callable[[_Type, str, int], Codec]] = {
            _INT: _build_integer,
            _PTR: lambda *_: Integer("pointer", _POINTER, signed=False),
            _FLOAT: _build_float,
            _ENUM: _build_enumeration,
            _ENUM64: _build_enumeration,
            _ARRAY: self._build_array,
            _STRUCT: self._build_structure,
            _UNION: self._build_structure,
        }
        build = builders.get(kind.kind)
        return build(kind, alias, depth) if build else Opaque(kind.name or alias or "void")

    def _build_array(self, kind: _Type, alias: str, depth: int) -> Codec:  # noqa: ARG002
        element = self.codec(kind.type, depth)
        name = dimensioned(element.name, kind.size)
        if isinstance(element, Char):
            return CharArray(name, kind.size)
        if type(element) is Integer and element.size == 1 and not element.signed:
            return ByteArray(name, kind.size)
        if element.name in _IPV4_NAMES and isinstance(element, Address) and element.size * kind.size == IPV6_BYTES:
            return Address(name, IPV6_BYTES)
        return Array(name, element, kind.size)

    def _build_structure(self, kind: _Type, alias: str, depth: int) -> Codec:
        is_union = kind.kind == _UNION
        if not is_union and _ADDRESS_STRUCTURES.get(kind.name) == kind.size:
            return Address(f"struct {kind.name}", kind.size)
        word = "union" if is_union else "struct"
        name = f"{word} {kind.name}" if kind.name else alias or word
        members: list[Member] = []
        tails: list[int] = []
        for at, raw in enumerate(kind.members):
            found = self._members(*raw[:4], depth)
            if is_union or at == len(kind.members) - 1:  # may extend beyond the end of the structure
                tails += [len(members) + index for index in self._tails(raw[0], raw[1], found)]
            members += found
            if len(members) > max(_MOST_MEMBERS, len(kind.members)):  # unnamed ones within unnamed ones can double
                raise ValueError(f"the object's BTF gives {name} more than {_MOST_MEMBERS} members")
        return Structure(name, kind.size, members, tails)

    def _tails(self, name: str, number: int, found: list[Member]) -> tuple[int, ...]:
        """The indices in `found` that can be longer than their type: the member, or members of an unnamed one."""
        codec = self.codec(number)
        if not name:
            return codec.tails if isinstance(codec, Structure) else ()
        return tuple(index for index, member in enumerate(found) if is_flexible(member.codec))

    def _members(self, name: str, number: int, offset: int, bits: int, depth: int) -> list[Member]:
        codec = self.codec(number, depth)
        if bits and isinstance(codec, Char):
            codec = Integer(codec.name, 1, signed=codec.signed)
        elif bits and type(codec) is Integer and codec.order != sys.byteorder:
            codec = Integer(codec.name, codec.size, signed=codec.signed)
        elif bits and isinstance(codec, Address):
            codec = Integer(codec.name, codec.size, signed=False)
        if not name:  # members of an unnamed one belong to the outer type; anything else unnamed is padding
            inner = codec.members if isinstance(codec, Structure) else ()
            return [member._replace(offset=offset + member.offset) for member in inner]
        if not bits and isinstance(codec, Integer):  # older compilers store it in the integer type itself
            integer = self._get(number)
            while integer.kind == _TYPEDEF or integer.kind in _MODIFIERS:
                integer = self._get(integer.type)
            if integer.kind == _INT and integer.bits != integer.size * 8:
                offset, bits = offset + integer.bit_offset, integer.bits
        if bits and not isinstance(codec, Integer):
            raise ValueError(f"the object's BTF makes a bit field of {name}, which is a {codec.name}")
        if not bits and offset % 8:
            raise ValueError(f"the object's BTF lets {name} begin within a byte")
        return [Member(name, codec, offset, bits)]


def _build_ordered(name: str, target: Codec) -> Codec:
    """An integer in network order, or an address; the type itself if its size is different."""
    size, order = _ORDERED[name]
    if type(target) is not Integer or target.size != size:
        return target
    return Address(name, size) if name in _IPV4_NAMES else Integer(name, size, signed=False, order=order)


def _build_integer(kind: _Type, alias: str, depth: int) -> Codec:  # noqa: ARG001
    if kind.encoding & _BOOL and kind.size == 1:
        return Bool(kind.name)
    if kind.size == 1 and (kind.name == "char" or kind.encoding & _CHAR):
        return Char(kind.name, signed=bool(kind.encoding & _SIGNED))
    return Integer(kind.name, kind.size, signed=bool(kind.encoding & _SIGNED))


def _build_float(kind: _Type, alias: str, depth: int) -> Codec:  # noqa: ARG001
    return Float(kind.name, kind.size) if kind.size in Float.FORMATS else Raw(kind.size, kind.name)


def _build_enumeration(kind: _Type, alias: str, depth: int) -> Codec:  # noqa: ARG001
    name = f"enum {kind.name}" if kind.name else alias or "enum"
    values = {member[0]: member[4] for member in kind.members}
    signed = bool(kind.encoding)
    if kind.kind == _ENUM and kind.size == _LARGE_ENUM:
        # clang before 15 cuts the values of a large enumeration to 32 bits: they would name other numbers.
        return Integer(name, kind.size, signed=signed)
    if kind.kind == _ENUM and not signed:
        # clang before 15 never marks an enumeration as signed. It is taken as signed if its large values, read as
        # signed, are all small negative numbers; numbers are taken either way.
        large = [value for value in values.values() if value >> 31]
        signed = bool(large) and min(large) > _LARGEST_U32 - _LARGEST_ERRNO
        if signed:
            values = {word: value - (value >> 31 << 32) for word, value in values.items()}
        return Enumeration(name, kind.size, values, signed=signed, either=bool(large))
    if not signed:
        values = {word: value & _LARGEST_U64 for word, value in values.items()}
    return Enumeration(name, kind.size, values, signed=signed)
