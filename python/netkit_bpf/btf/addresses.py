# SPDX-License-Identifier: MIT
"""Internet addresses as C has them, and Python's."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

from netkit_bpf.btf.codec import BYTES, Codec

ADDRESS_CLASSES = (IPv4Address, IPv6Address)
PREFIXES = (*ADDRESS_CLASSES, IPv4Network, IPv6Network)
IPV4_BYTES, IPV6_BYTES = 4, 16


class Address(Codec):
    """An address of IPv4 or IPv6, in network order: an object of the module ipaddress.

    Also takes its text, its bytes and its number, int(address).
    """

    def __init__(self, name: str, size: int) -> None:
        self.kind: Any = IPv4Address if size == IPV4_BYTES else IPv6Address
        super().__init__(name, size, f"{size}s", self.kind)

    def _pack(self, buffer: bytearray, offset: int, value: Any, path: str) -> None:
        buffer[offset : offset + self.size] = self.packed(value, path)

    def packed(self, value: Any, path: str) -> bytes:
        """The bytes of an address that is written in any of these ways."""
        if isinstance(value, ADDRESS_CLASSES):
            if not isinstance(value, self.kind):
                raise TypeError(f"{path} must be an {self.kind.__name__}, not {type(value).__name__}")
            return self._without_scope(value, path)
        if isinstance(value, BYTES):
            data = bytes(value)  # the length of a memoryview counts its items
            if len(data) != self.size:
                raise ValueError(f"{path} must be {self.size} bytes, not {len(data)}")
            return data
        try:
            if isinstance(value, str):
                return self._without_scope(self.kind(value), path)
            return bytes(self.kind(self._number(value, path)).packed)
        except ValueError as error:  # which ipaddress explains
            raise ValueError(f"{path}: {error}") from None

    def _number(self, value: Any, path: str) -> int:
        elements = getattr(value, "tolist", lambda: value)()  # numpy's
        if (
            isinstance(elements, Sequence)
            and len(elements) == self.size
            and all(each in range(256) for each in elements)
        ):
            return int.from_bytes(bytes(elements), "big")
        try:
            number = operator.index(elements)
        except TypeError:
            raise TypeError(f"{path} must be an {self.kind.__name__}, not {type(value).__name__}") from None
        most = (1 << self.size * 8) - 1
        if not 0 <= number <= most:
            raise OverflowError(f"{path} must be 0 to {most}, not {number}")
        return number

    @staticmethod
    def _without_scope(address: Any, path: str) -> bytes:
        if getattr(address, "scope_id", None):
            raise ValueError(f"{path} has no room for the scope of {address}")
        return bytes(address.packed)
