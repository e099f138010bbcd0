# SPDX-License-Identifier: MIT
"""The table against the pseudocode of the paper (Maglev, NSDI 2016, section 3.4), and what moves as names go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
import pytest

from netkit_bpf import MaglevTable

M = 65537
WORD = (1 << 64) - 1


def mixed(value: int) -> int:
    """The finalizer of MurmurHash3."""
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        value = (value ^ value >> 33) * factor & WORD
    return value ^ value >> 33


def hashes(name: str) -> tuple[int, int]:
    """FNV-1a, mixed once and twice."""
    value = 0xCBF29CE484222325
    for byte in name.encode():
        value = (value ^ byte) * 0x100000001B3 & WORD
    return mixed(value), mixed(mixed(value))


def populate(names: list[str], size: int) -> list[str]:
    """Pseudocode 1 of the paper, as it stands there; names in the order of the alphabet."""
    names = sorted(names)
    count = len(names)
    permutation = []
    for name in names:
        offset, skip = hashes(name)[0] % size, hashes(name)[1] % (size - 1) + 1
        permutation.append([(offset + j * skip) % size for j in range(size)])
    following = [0] * count
    entry = [-1] * size
    filled = 0
    while True:
        for i in range(count):
            c = permutation[i][following[i]]
            while entry[c] >= 0:
                following[i] += 1
                c = permutation[i][following[i]]
            entry[c] = i
            following[i] += 1
            filled += 1
            if filled == size:
                return [names[i] for i in entry]


@pytest.mark.parametrize(("count", "size"), [(1, 2), (1, 7), (2, 7), (3, 13), (5, 251), (100, 251), (7, 65537)])
def test_the_table_is_the_papers(count: int, size: int) -> None:
    names = [f"10.0.{number}.2 80 b{number}" for number in range(count)]
    assert list(MaglevTable(names, size)) == populate(names, size)


def test_the_order_of_names_does_not_count() -> None:
    weights = {"a": 3, "b": 1, "c": 2}
    table = MaglevTable(weights)
    assert table == MaglevTable(dict(reversed(weights.items())))
    assert table != MaglevTable({**weights, "a": 2})


@pytest.mark.parametrize(("count", "most"), [(5, 0.0001), (100, 0.0025), (500, 0.011)])
def test_names_of_one_weight_have_parts_of_one_size(count: int, most: float) -> None:
    shares = MaglevTable([f"b{number}" for number in range(count)]).shares.values()
    assert (max(shares) - min(shares)) / (M / count) <= most


@pytest.mark.parametrize("weights", [{"a": 1, "b": 2, "c": 3, "d": 4, "e": 5}, {"a": 1, "b": 1000}, {"a": 7}])
def test_parts_are_in_proportion_to_weights(weights: Mapping[str, int]) -> None:
    shares = MaglevTable(weights).shares
    for name, weight in weights.items():
        assert shares[name] == pytest.approx(M * weight / sum(weights.values()), rel=0.02)


@pytest.mark.parametrize(("count", "most"), [(5, 0.005), (100, 0.012), (500, 0.03)])
def test_little_moves_when_a_name_goes_or_comes(count: int, most: float) -> None:
    names = [f"b{number}" for number in range(count)]
    whole, without = MaglevTable(names), MaglevTable(names[1:])
    others = [(before, after) for before, after in zip(whole, without, strict=True) if before != names[0]]
    assert sum(before != after for before, after in others) <= most * M


def test_it_is_read_as_a_sequence_and_as_an_array() -> None:
    table = MaglevTable(["a", "b"], 7)
    assert Counter(table) == table.shares == {"a": 4, "b": 3}
    assert [table[index] for index in range(7)] == list(table[:]) == list(table)
    assert table[-1] == list(table)[-1]
    array = np.asarray(table)
    assert [table.names[number] for number in array] == list(table)
    assert not array.flags.writeable
    assert table.tobytes() == array.tobytes()
    assert repr(table) == "<MaglevTable of 2 names, 7 entries>"
    assert set(MaglevTable([])) == {None}
    with pytest.raises(IndexError):
        table[7]


def test_what_is_no_table_is_refused() -> None:
    with pytest.raises(TypeError, match="must be names"):
        MaglevTable("ab")
    with pytest.raises(ValueError, match="each name once"):
        MaglevTable(["a", "a"])
    with pytest.raises(ValueError, match="the weight of 'a' must be 1 to 65535, not 0"):
        MaglevTable({"a": 0})
    with pytest.raises(TypeError, match="the weight of 'a' must be an int"):
        MaglevTable({"a": 1.5})
    with pytest.raises(ValueError, match="size must be 2 to 65537"):
        MaglevTable(["a"], 65538)
    with pytest.raises(ValueError, match="must be a prime"):
        MaglevTable(["a"], 65536)
    with pytest.raises(TypeError, match="a name must be a str"):
        MaglevTable([1])  # type: ignore[list-item]
