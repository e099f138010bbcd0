# SPDX-License-Identifier: MIT
"""The common part of programs and maps: they exist in the kernel once their object is loaded, until closed."""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

from netkit_bpf._core import Object as CoreObject


class _Core(Protocol):
    def fileno(self) -> int: ...


_C = TypeVar("_C", bound=_Core)


class Loadable(Generic[_C]):
    """A program or a map of an object. Any thread may use it, and close it."""

    _kind_called: str  # "program", in errors
    _unmade: str  # why one that was left out at load is missing, and what to do

    def __init__(self, name: str) -> None:
        self._name = name
        self._core: _C | None = None
        self._object: CoreObject | None = None  # until it is loaded
        self._closed = False

    @property
    def name(self) -> str:
        """Its name in the source; if it was opened by id or by path, the kernel's name, at most 15 bytes."""
        return self._name

    def close(self) -> None:
        """Close its descriptor; it stays where it is attached, pinned or in use elsewhere. Idempotent."""
        self._closed = True
        self._core = None
        self._object = None

    @property
    def closed(self) -> bool:
        """Whether it, or its object, was closed."""
        return self._closed

    def _fileno(self) -> int:
        """The descriptor; it still belongs to this object."""
        return self._open().fileno()

    def _open(self) -> _C:
        core = self._core  # another thread may close it
        if self._closed:
            raise ValueError(f"{self._kind_called} '{self._name}' is closed")
        if core is None and self._object is not None:
            raise ValueError(f"{self._kind_called} '{self._name}' is not loaded: call load() of its object first")
        if core is None:
            raise ValueError(f"{self._kind_called} '{self._name}' {self._unmade}")
        return core

    def _unloaded(self, what: str) -> CoreObject:
        unloaded = self._object
        if unloaded is None:
            state = "closed" if self._closed else "loaded"
            raise ValueError(f"{self._kind_called} '{self._name}' is {state}: {what} before load")
        return unloaded

    def _load(self, core: _C | None) -> None:
        """Take the program or map that the kernel has made; None if it made none."""
        self._core = core
        self._object = None
