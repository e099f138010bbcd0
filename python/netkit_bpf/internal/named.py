# SPDX-License-Identifier: MIT
"""Named things, such as an object's programs, maps and variables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NoReturn, TypeVar

_T = TypeVar("_T")


class Named(Mapping[str, _T]):
    """A read-only mapping whose errors say what there is.

    Args:
        kind: what the things are, "variable".
        things: by name.
        instead: how to change such a thing, because assigning to a name does not.
    """

    __slots__ = ("_instead", "_kind", "_things")

    def __init__(self, kind: str, things: Mapping[str, _T], instead: str = "") -> None:
        self._kind = kind
        self._things = things
        self._instead = instead

    def __getitem__(self, name: str) -> _T:
        try:
            return self._things[name]
        except KeyError:
            there_are = f"there are {', '.join(self._things)}" if self._things else "there are none"
            raise KeyError(f"no {self._kind} {name!r}: {there_are}") from None

    def __setitem__(self, name: str, _: object) -> NoReturn:
        raise TypeError(f"a {self._kind} cannot be replaced{self._instead.format(name=name)}")

    def __iter__(self) -> Iterator[str]:
        return iter(self._things)

    def __len__(self) -> int:
        return len(self._things)

    def _ipython_key_completions_(self) -> list[str]:
        """What IPython offers in brackets: obj.maps["<Tab>."""
        return list(self._things)

    def __repr__(self) -> str:
        return repr(dict(self._things))
