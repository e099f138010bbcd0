# SPDX-License-Identifier: MIT
"""What is closed on leaving its `with` block."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import TypeVar

_T = TypeVar("_T", bound="Closing")


class Closing(ABC):
    """A context manager that closes itself on exit."""

    @abstractmethod
    def close(self) -> None:
        """Let go of everything. Idempotent."""

    def __enter__(self: _T) -> _T:
        if getattr(self, "closed", False):
            raise ValueError(f"{self!r}: it is closed")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
