# SPDX-License-Identifier: MIT
"""The numeric attributes of ip-link(8): the core's table of them, and the device properties made from it."""

from __future__ import annotations

from typing import NamedTuple, Protocol, overload

from netkit_bpf._core import LINK_NUMBERS as _ROWS


class LinkNumber(NamedTuple):
    """A row of the table.

    Attributes:
        name: what it is called here: "num_tx_queues".
        word: what ip-link(8) calls it: "numtxqueues".
        key: what `ip -json link` calls it.
        at_creation: the range for a new netkit device.
        later: the range for a change on a device of any kind; None if it cannot be changed.
        what: a short description.
    """

    name: str
    word: str
    key: str
    at_creation: range
    later: range | None
    what: str


def _range(ends: tuple[int, int]) -> range:
    return range(ends[0], ends[1] + 1)


LINK_NUMBERS = {
    name: LinkNumber(name, word, key, _range(at_creation), later and _range(later), what)
    for name, word, key, at_creation, later, what in _ROWS
}


class _HasNumbers(Protocol):
    def _number(self, name: str) -> int: ...


class Number:
    """A property of a device: the number that has the same name, read from the kernel at each access."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name
        what = LINK_NUMBERS[name].what
        self.__doc__ = f"{what[0].upper()}{what[1:]}."

    @overload
    def __get__(self, device: None, owner: type) -> Number: ...
    @overload
    def __get__(self, device: _HasNumbers, owner: type) -> int: ...
    def __get__(self, device: _HasNumbers | None, owner: type) -> Number | int:
        return self if device is None else device._number(self._name)

    def __set__(self, device: object, value: int) -> None:
        raise AttributeError(f"{self._name} is read from the kernel: change it with set({self._name}={value!r})")
