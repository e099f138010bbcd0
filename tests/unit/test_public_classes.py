"""What `help()` and a notebook's `?` show of the public classes."""

from __future__ import annotations

import inspect

import pytest

import netkit_bpf as nk

CLASSES = [each for name in nk.__all__ if inspect.isclass(each := getattr(nk, name))]
MADE = [each for each in CLASSES if "__init__" in vars(each) and not issubclass(each, (tuple, BaseException))]


@pytest.mark.parametrize("each", CLASSES, ids=lambda each: str(each.__name__))
def test_a_class_is_described(each: type) -> None:
    assert inspect.getdoc(each)


@pytest.mark.parametrize("each", MADE, ids=lambda each: str(each.__name__))
def test_a_class_is_described_in_one_place_and_says_how_one_gets_it(each: type) -> None:
    text = inspect.getdoc(each)
    assert text
    assert inspect.getdoc(vars(each)["__init__"]) in (None, inspect.getdoc(object.__init__))
    if len(inspect.signature(each).parameters) > 0:
        assert "Made by" in text or "Args:" in text or ">>> " in text, "who makes one?"
