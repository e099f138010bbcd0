# SPDX-License-Identifier: MIT
"""What the kernel keeps for an object, until the object is closed: who forgets that is told where it was made."""

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
    """Notes where an object was made, once it is whole: one whose construction failed holds nothing."""

    def __call__(cls, *args: Any, **options: Any) -> Any:
        place = _place()
        made = super().__call__(*args, **options)
        made._made_at = place
        made._made_by = os.getpid()
        return made


class Resource(metaclass=_Made):
    """Something that its maker has to let go of.

    Python warns with a `ResourceWarning` where the last reference to one is dropped first, and names it by its noun and
    the line that made it. It is silent about what is a part of another resource, and in a forked child, which holds
    a copy.
    """

    _warns = True  # of those whose loss harms nobody, False
    _made_at: tuple[str, int] | None  # file and line; None of a part
    _made_by: int  # the process

    @abstractmethod
    def _noun(self) -> str:
        """What is held, "Monitor of nk0"; empty if nothing is."""

    @abstractmethod
    def _let_go_of(self) -> str:
        """Let go of what can be, as the last reference is dropped; returns what becomes of it, for the warning."""

    def _what_is_held(self) -> str:
        """The noun, and where it was made; empty if nothing is held, or another resource holds it."""
        made_at = getattr(self, "_made_at", None)
        if made_at is None or os.getpid() != self._made_by:
            return ""
        noun = self._noun()
        path, line = made_at
        return f"{noun}, made at {path.removeprefix(f'{Path.cwd()}/')}:{line}" if noun else ""

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
    """A context manager that closes itself on exit."""

    @property
    @abstractmethod
    def closed(self) -> bool:
        """Whether `close` was called."""

    @abstractmethod
    def close(self) -> None:
        """Let go of everything. Idempotent."""

    def _of(self) -> str:
        """What it is about, for people: the name of a device, a map or a program."""
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
    """What an object holds that was not let go of, and where it was made; empty for any other object."""
    return object_._what_is_held() if isinstance(object_, Resource) else ""


def _place() -> tuple[str, int] | None:
    """The line outside of this package that makes something; None where another object makes it as a part of itself."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module != _PACKAGE and not module.startswith(f"{_PACKAGE}."):
            return frame.f_code.co_filename, frame.f_lineno
        if frame.f_code.co_name == "__init__":
            return None
        frame = frame.f_back
    return None
