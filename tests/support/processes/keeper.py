"""Leaving something behind on purpose, in a test run inside a test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import pytest

from netkit_bpf import NetkitPair, NetNS


class Closable(Protocol):
    def close(self) -> None: ...


Kept = NetNS | NetkitPair | Closable


class Keeper:
    """A plugin for the inner run, whose fixture lets a test keep something alive beyond its end."""

    def __init__(self) -> None:
        self.kept: list[Kept] = []

    @pytest.fixture
    def keep(self) -> Callable[[Kept], None]:
        return self.kept.append


@contextmanager
def keeping() -> Iterator[Keeper]:
    """A keeper that cleans up at the end."""
    keeper = Keeper()
    yield keeper
    for each in keeper.kept:
        if isinstance(each, (NetNS, NetkitPair)):
            each.delete()
        else:
            each.close()
    keeper.kept.clear()
