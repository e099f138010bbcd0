# SPDX-License-Identifier: MIT
"""Consistent hashing: "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016, section 3.4."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

from netkit_bpf._core import maglev_table
from netkit_bpf.internal.arguments import expect_in, expect_text

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SIZES = range(2, 65538)
_WEIGHTS = range(1, 65536)
_MOST = 65534
_NOBODY = 0xFFFF


class MaglevTable(Sequence["str | None"]):
    """A table of names: each has a part of the entries, in proportion to the weights, and keeps most when others go.

    Immutable. A hash modulo the table's size gives an entry, and the entry a name. The same names and weights make the
    same table everywhere, in whichever order they are given. Without names each entry is None.

    Args:
        weights: names and their weights, 1 to 65535; or names alone, which weigh the same.
        size: how many entries: a prime, at most 65537, and better a hundred times as many as there are names.

    Raises:
        ValueError: a name is there twice, a weight or the size is not possible.

    >>> table = MaglevTable({"a": 2, "b": 1, "c": 1}, size=13)
    >>> table[0], table.shares
    ('a', {'a': 7, 'b': 3, 'c': 3})
    """

    def __init__(self, weights: Mapping[str, int] | Iterable[str], size: int = 65537) -> None:
        if isinstance(weights, str):
            raise TypeError("weights must be names, not a str")
        pairs = list(weights.items()) if isinstance(weights, Mapping) else [(name, 1) for name in weights]
        for name, weight in pairs:
            expect_text(name, "a name")
            expect_in(weight, _WEIGHTS, f"the weight of {name!r}")
        self._names = tuple(name for name, _ in pairs)
        if len(set(self._names)) != len(pairs):
            raise ValueError("weights must have each name once")
        if len(pairs) > _MOST:
            raise ValueError(f"weights must have at most {_MOST} names, not {len(pairs)}")
        self._bytes = maglev_table(pairs, expect_in(size, _SIZES, "size"))

    @property
    def names(self) -> tuple[str, ...]:
        """The names, as they were given."""
        return self._names

    @property
    def shares(self) -> dict[str, int]:
        """How many entries each name has."""
        counts = Counter(memoryview(self._bytes).cast("H"))
        return {name: counts[number] for number, name in enumerate(self._names)}

    def tobytes(self) -> bytes:
        """The entries as the numbers of names, 16 bits each in the machine's order; 65535 where there is no name."""
        return self._bytes

    def __len__(self) -> int:
        return len(self._bytes) // 2

    @overload
    def __getitem__(self, index: int) -> str | None: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str | None]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str | None] | None:
        found = memoryview(self._bytes).cast("H")[index]
        if isinstance(found, memoryview):
            return [self._name(number) for number in found]
        return self._name(found)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        import numpy as np

        numbers = np.frombuffer(self._bytes, np.uint16)  # read-only
        return numbers.astype(dtype or numbers.dtype) if copy or dtype is not None else numbers

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, MaglevTable):
            return NotImplemented
        return list(self) == list(other)

    def __hash__(self) -> int:
        return hash((len(self), frozenset(self._names)))

    def __repr__(self) -> str:
        return f"<MaglevTable of {len(self._names)} names, {len(self)} entries>"

    def _name(self, number: int) -> str | None:
        return None if number == _NOBODY else self._names[number]
