# SPDX-License-Identifier: MIT
"""Objects for which the kernel keeps something until they are closed: a warning says where an unclosed one was made."""

from __future__ import annotations

import os
import sys
from abc import ABCMeta, abstractmethod
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, TypeVar

_T = TypeVar("_T", bound="Closing")
_PACKAGE = __name__.partition(".")[0]


class _Made(ABCMeta):
    """Notes where an object was made, once construction has succeeded: a failed one holds nothing."""

    def __call__(cls, *args: Any, **options: Any) -> Any:
        made = super().__call__(*args, **options)
        made.note_made()
        return made


class Resource(metaclass=_Made):
    """Something that must be closed or deleted.

    If the last reference to one is dropped before that, a `ResourceWarning` names it and the line that made it. There
    is no warning for a part of another resource, nor in a forked child, which holds a copy.
    """

    _warns = True  # False if losing one does no harm
    _made_at: tuple[str, int] | None  # file and line; None for a part
    _made_by: int  # the process

    def note_made(self) -> None:
        """Note where it was made. To be called once it is whole, if it is not made by a call of its class."""
        self._made_at = _place()
        self._made_by = os.getpid()

    @abstractmethod
    def _noun(self) -> str:
        """What it holds, "Monitor of nk0"; empty if nothing."""

    @abstractmethod
    def _let_go_of(self) -> str:
        """Release what can be released, as the last reference is dropped; returns what happened, for the warning."""

    def _what_is_held(self) -> str:
        """The noun, and where it was made; empty if it holds nothing, or is held by another resource."""
        made_at = getattr(self, "_made_at", None)
        if made_at is None or os.getpid() != self._made_by:
            return ""
        noun = self._noun()
        path, line = made_at
        return f"{noun}, made at {path.removeprefix(f'{Path.cwd()}/')}:{line}" if noun else ""

    def __reduce__(self) -> tuple[Any, ...]:
        """Refuse copies and pickles: two would be closed for one."""
        raise TypeError(f"a {type(self).__name__} cannot be copied or pickled")

    def __del__(self) -> None:
        try:
            held = self._warns and self._what_is_held()
            import warnings
        except Exception:  # the interpreter ends
            return
        if held:
            fate = self._let_go_of()
            warnings.warn(f"{held}, {fate}", ResourceWarning, stacklevel=2, source=self)


class Closing(Resource):
    """What monitors, observers, firewalls and the like are: something that is closed, by `close` or by a `with` block.

    One that nobody refers to any more is closed then, with a `ResourceWarning` that names the line which made it. In a
    forked child, which holds a copy, nothing is said.

    Derive from it for a packet function of your own: `closed` and `close` are yours.

    >>> class Counter(nk.Closing):  # doctest: +SKIP
    ...     def close(self) -> None:
    ...         self._link.detach()
    """

    @property
    @abstractmethod
    def closed(self) -> bool:
        """Whether `close` was called."""

    @abstractmethod
    def close(self) -> None:
        """Release everything. Idempotent."""

    def _of(self) -> str:
        """What it belongs to, for messages: the name of a device, a map or a program."""
        return ""

    def _noun(self) -> str:
        if self.closed:
            return ""
        of = self._of()
        return f"{type(self).__name__} of {of}" if of else type(self).__name__

    def _let_go_of(self) -> str:
        self.close()
        return "was never closed: nobody refers to it any more, so it is closed now; keep it, and use `with`"

    def __enter__(self: _T) -> _T:
        if getattr(self, "closed", False):
            raise ValueError(f"{self!r}: it is closed")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def what_is_held(object_: object) -> str:
    """What an object still holds, and where it was made; empty if it holds nothing."""
    return object_._what_is_held() if isinstance(object_, Resource) else ""


def _place() -> tuple[str, int] | None:
    """The line outside of this package that makes the object; None if another object makes it as a part of itself."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module != _PACKAGE and not module.startswith(f"{_PACKAGE}."):
            return frame.f_code.co_filename, frame.f_lineno
        if frame.f_code.co_name == "__init__":
            return None
        frame = frame.f_back
    return None
