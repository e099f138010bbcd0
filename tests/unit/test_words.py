"""Words and the numbers behind them: Python's enumerations say what the core's tables say."""

from __future__ import annotations

import enum

import pytest

from netkit_bpf import enums
from netkit_bpf._core import WORDS


def test_the_words_of_each_enumeration_are_the_cores() -> None:
    found = {
        name: {str(member) for member in list[object](kind)}
        for name, kind in vars(enums).items()
        if isinstance(kind, enum.EnumMeta) and len(kind)
    }
    assert found == {name: set(words) for name, words in WORDS.items()}


def test_a_word_has_a_number_and_a_number_a_word() -> None:
    for name in WORDS:
        kind = getattr(enums, name)
        for member in kind:
            assert kind.from_number(member.number) is member
    assert (enums.Policy.BLACKHOLE.number, enums.Verdict.NEXT.number, enums.Verdict.REDIRECT.number) == (2, -1, 7)
    assert enums.Scrub.from_number(None, enums.Scrub.DEFAULT) is enums.Scrub.DEFAULT
    for number in (None, 1):
        with pytest.raises(ValueError, match=f"the kernel says {number}, which is not one of forward, blackhole"):
            enums.Policy.from_number(number)
