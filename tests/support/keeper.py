"""Leaving something behind on purpose, in a test run inside a test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from netkit_bpf import NetkitPair, NetNS


class Keeper:
    """A plugin for the inner run, whose fixture lets a test keep something alive beyond its end."""

    def __init__(self) -> None:
        self.kept: list[NetNS | NetkitPair] = []

    @pytest.fixture
    def keep(self) -> Callable[[NetNS | NetkitPair], None]:
        return self.kept.append


@contextmanager
def keeping() -> Iterator[Keeper]:
    """A keeper that tidies up at last."""
    keeper = Keeper()
    yield keeper
    while keeper.kept:
        keeper.kept.pop().delete()
