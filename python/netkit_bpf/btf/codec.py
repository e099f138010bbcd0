# SPDX-License-Identifier: MIT
"""How values of C types become Python's, and back.

A codec knows of one type how many bytes it takes, how the struct module reads it, and which values it refuses. Errors
name the field by the path that leads to it.
"""

from __future__ import annotations

import contextlib
import keyword
import operator
import struct
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

from netkit_bpf.btf.record import enumeration_class

Convert = Callable[[Any], Any]
Order = Literal["little", "big"]

LARGEST_NUMBER = 8  # bytes; numpy has no larger integers
BYTES = (bytes, bytearray, memoryview)


class Codec(ABC):
    """A type. `format` reads one raw value (module struct); `convert` makes it the Python value, None if it is that
    already.

    `is_exact` says whether encoding a decoded value gives the same bytes. Immutable: any thread may use it.
    """

    is_exact = True

    def __init__(self, name: str, size: int, fmt: str, convert: Convert | None = None) -> None:
        self.name = name
        self.size = size
        self.format = fmt
        self.convert = convert
        self._unpack = struct.Struct("=" + fmt).unpack

    def decode(self, data: bytes) -> Any:
        """The value that the bytes stand for; ValueError if they are too many or too few."""
        if len(data) != self.size:
            raise ValueError(f"{self.name} takes {self.size} bytes, not {len(data)}")
        (raw,) = self._unpack(data)
        return raw if self.convert is None else self.convert(raw)

    def encode(self, value: Any, path: str) -> bytes:
        """The bytes that stand for the value; a TypeError, ValueError or OverflowError names the path and its range."""
        buffer = bytearray(self.size)
        self._pack(buffer, 0, value, path)
        return bytes(buffer)

    @abstractmethod
    def _pack(self, buffer: bytearray, offset: int, value: Any, path: str) -> None:
        """Write the value into a buffer of zeros."""

    def __repr__(self) -> str:
        return f"<{self.name}, {self.size} bytes>"


class Raw(Codec):
    """Bytes of an unknown type."""

    def __init__(self, size: int, name: str = "bytes") -> None:
        super().__init__(name, size, f"{size}s")

    def _pack(self, buffer: bytearray, offset: int, value: Any, path: str) -> None:
        copy(self, buffer, offset, value, path)


class Integer(Codec):
    """An integer or a pointer of 1, 2, 4, 8 or 16 bytes, in either byte order. One of 16 bytes also takes its bytes, as
    numpy has it.
    """

    _FORMATS: ClassVar = {1: "B", 2: "H", 4: "I", 8: "Q"}

    def __init__(
        self, name: str, size: int, *, signed: bool, convert: Convert | None = None, order: Order = sys.byteorder
    ) -> None:
        if size in self._FORMATS and order == sys.byteorder:
            fmt = self._FORMATS[size]
            super().__init__(name, size, fmt.lower() if signed else fmt, convert)
        else:
            super().__init__(name, size, f"{size}s", lambda raw: int.from_bytes(raw, order, signed=signed))
        self.signed = signed
        self.order: Order = order

    def _number(self, value: Any, path: str, bits: int) -> int:
        """The value as an integer of so many bits, checked."""
        if self.size > LARGEST_NUMBER and isinstance(_void(value), BYTES):
            value = int.from_bytes(_sized(self, value, path), self.order, signed=self.signed)
        try:
            number = operator.index(value)
        except TypeError:
            is_address = hasattr(value, "packed")
            hint = ": declare it __be32, or struct in6_addr, and it takes addresses" if is_address else ""
            raise TypeError(f"{path} must be an integer, not {type(value).__name__}{hint}") from None
        least, most = (-(1 << bits - 1), (1 << bits - 1) - 1) if self.signed else (0, (1 << bits) - 1)
        if not least <= number <= most:
            raise OverflowError(f"{path} must be {least} to {most}, not {number}")
        return number

    def _pack(self, buffer: bytearray, offset: int, value: Any, path: str) -> None:
        number = self._number(value, path, self.size * 8)
        buffer[offset : offset + self.size] = number.to_bytes(self.size, self.order, signed=self.signed)


class Enumeration(Integer):
    """An enumeration: a member of an IntEnum where the number has a name, else the number. Also takes names.

    `either` says that it is not known to be signed or not: it takes -1 and the largest unsigned number for the same.
    """

    def __init__(self, name: str, size: int, members: Mapping[str, int], *, signed: bool, either: bool = False) -> None:
        self.either = either
        self.members = dict(members)
        known: dict[int, Any] = {}
        with contextlib.suppress(TypeError, ValueError, AttributeError):  # names that an IntEnum cannot have
            known = {int(word): word for word in enumeration_class(identifier(name), tuple(members.items()))}
        super().__init__(name, size, signed=signed, convert=lambda raw: known.get(raw, raw))

    def _number(self, value: Any, path: str, bits: int) -> int:
        if isinstance(value, str):
            if value not in self.members:
                raise ValueError(f"{path} must be one of {', '.join(self.members)}, not {value!r}")
            value = self.members[value]
        if self.either and hasattr(value, "__index__"):
            number, half = operator.index(value), 1 << bits - 1
            if self.signed and half <= number < 2 * half:
                value = number - 2 * half
            elif not self.signed and -half <= number < 0:
                value = number + 2 * half
        return super()._number(value, path, bits)


class Bool(Integer):
    """A _Bool."""

    is_exact = False  # every number but 0 is true

    def __init__(self, name: str, size: int = 1) -> None:
        super().__init__(name, size, signed=False, convert=bool)

    def _number(self, value: Any, path: str, bits: int) -> int:  # noqa: ARG002
        if not isinstance(value, bool) and getattr(getattr(value, "dtype", None), "kind", "") != "b":
            raise TypeError(f"{path} must be a bool, not {type(value).__name__}")
        return int(bool(value))


class Float(Codec):
    """A floating point number of 2, 4 or 8 bytes."""

    is_exact = False  # NaN has many encodings
    FORMATS: ClassVar = {2: "e", 4: "f", 8: "d"}

    def __init__(self, name: str, size: int) -> None:
        super().__init__(name, size, self.FORMATS[size])

    def _pack(self, buffer: bytearray, offset: int, value: Any, path: str) -> None:
        if isinstance(value, (str, *BYTES)) or not hasattr(value, "__float__"):
            raise TypeError(f"{path} must be a number, not {type(value).__name__}")
        try:
            struct.pack_into("=" + self.format, buffer, offset, value)
        except OverflowError:
            raise OverflowError(f"{path} must fit a {self.name} of {self.size} bytes, not {value}") from None


class Char(Codec):
    """A single char: bytes of length 1. Also takes empty bytes for zero, as numpy gives them."""

    def __init__(self, name: str, *, signed: bool = True) -> None:
        super().__init__(name, 1, "c")
        self.signed = signed  # used by bit fields

    def _pack(self, buffer: bytearray, offset: int, value: Any, path: str) -> None:
        data = _text(value, path)
        if len(data) > 1:
            raise ValueError(f"{path} must be 1 byte, not {len(data)}")
        buffer[offset : offset + len(data)] = data


class CharArray(Codec):
    """An array of char: bytes up to the first zero. Also takes str, which becomes UTF-8."""

    is_exact = False  # the bytes behind the zero are lost

    def __init__(self, name: str, size: int) -> None:
        super().__init__(name, size, f"{size}s", self.elements)

    @staticmethod
    def elements(raw: bytes) -> bytes:
        """The text in the bytes."""
        return raw.partition(b"\0")[0]

    def of_bytes(self, size: int) -> CharArray:
        """The same array with this many bytes, in place of a flexible one."""
        return CharArray(dimensioned("char", size), size)

    def _pack(self, buffer: bytearray, offset: int, value: Any, path: str) -> None:
        data = _text(value, path)
        if len(data) > self.size:
            raise ValueError(f"{path} must be at most {self.size} bytes, not {len(data)}")
        buffer[offset : offset + len(data)] = data


class ByteArray(Codec):
    """An array of unsigned bytes: bytes, all of them. Also takes a sequence of integers, and an address that fits."""

    def __init__(self, name: str, size: int) -> None:
        super().__init__(name, size, f"{size}s")

    @staticmethod
    def elements(raw: bytes) -> bytes:
        """All of the bytes."""
        return raw

    def of_bytes(self, size: int) -> ByteArray:
        """The same array with this many bytes, in place of a flexible one."""
        return ByteArray(dimensioned(self.name.partition("[")[0], size), size)

    def _pack(self, buffer: bytearray, offset: int, value: Any, path: str) -> None:
        value = getattr(value, "packed", value)  # of the module ipaddress
        if not isinstance(value, BYTES):
            numbers = _elements(value, self.size, path)
            byte = Integer("byte", 1, signed=False)
            value = bytes(byte._number(each, f"{path}[{index}]", 8) for index, each in enumerate(numbers))
        copy(self, buffer, offset, value, path)


class Array(Codec):
    """An array: a tuple. Also takes its bytes."""

    def __init__(self, name: str, element: Codec, count: int) -> None:
        size = element.size * count
        super().__init__(name, size, f"{size}s", self.elements)
        self.element = element
        self.count = count
        self.is_exact = element.is_exact
        self._iterate = struct.Struct("=" + element.format).iter_unpack

    def elements(self, raw: bytes) -> tuple[Any, ...]:
        """As many elements as the bytes hold."""
        size = self.element.size
        if size == 0:
            return ()
        raw = raw[: len(raw) // size * size]
        convert = self.element.convert
        if convert is None:
            return tuple(element for (element,) in self._iterate(raw))
        return tuple(convert(element) for (element,) in self._iterate(raw))

    def of_bytes(self, size: int) -> Array:
        """The same array with as many elements as fit, in place of a flexible one."""
        count = size // (self.element.size or 1)
        return Array(dimensioned(self.element.name, count), self.element, count)

    def _pack(self, buffer: bytearray, offset: int, value: Any, path: str) -> None:
        if isinstance(value, BYTES):
            copy(self, buffer, offset, value, path)
            return
        for index, each in enumerate(_elements(value, self.count, path)):
            self.element._pack(buffer, offset + index * self.element.size, each, f"{path}[{index}]")


class Opaque(Codec):
    """A type without values: void, a function, a structure that is only declared."""

    def __init__(self, name: str) -> None:
        super().__init__(name, 0, "0s")

    def _pack(self, buffer: bytearray, offset: int, value: Any, path: str) -> None:  # noqa: ARG002
        raise TypeError(f"{path} is {self.name}, which has no values")


def copy(codec: Codec, buffer: bytearray, offset: int, value: Any, path: str) -> None:
    """Write bytes into the buffer; ValueError unless their number is the size of the type."""
    buffer[offset : offset + codec.size] = _sized(codec, value, path)


def _sized(codec: Codec, value: Any, path: str) -> bytes:
    """The value, if it is bytes, as many as the type has."""
    value = _void(value)
    if not isinstance(value, BYTES):
        raise TypeError(f"{path} must be bytes, not {type(value).__name__}")
    data = bytes(value)
    if len(data) != codec.size:
        raise ValueError(f"{path} must be {codec.size} bytes, not {len(data)}")
    return data


def _void(value: Any) -> Any:
    """The bytes of what numpy has where it knows no type; anything else as it is."""
    return value.tobytes() if getattr(getattr(value, "dtype", None), "kind", "") == "V" else value


def _text(value: Any, path: str) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if not isinstance(value, BYTES):
        raise TypeError(f"{path} must be bytes or str, not {type(value).__name__}")
    return bytes(value)


def _elements(value: Any, count: int, path: str) -> Sequence[Any]:
    elements = value if isinstance(value, Sequence) else getattr(value, "tolist", lambda: None)()
    if not isinstance(elements, Sequence) or isinstance(elements, (str, *BYTES)):
        raise TypeError(f"{path} must be a sequence, not {type(value).__name__}")
    if len(elements) != count:
        raise ValueError(f"{path} must have {count} elements, not {len(elements)}")
    return elements


def dimensioned(element: str, count: int) -> str:
    """How C writes an array of so many elements: "int[2][3]" of two that are "int[3]"."""
    name, bracket, rest = element.partition("[")
    return f"{name}[{count}]{bracket}{rest}"


def identifier(name: str) -> str:
    """A name for a Python class: that of the C type, without the keyword in front."""
    last = name.rpartition(" ")[2]
    return last if last.isidentifier() and not keyword.iskeyword(last) else "anonymous"
