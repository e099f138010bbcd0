# SPDX-License-Identifier: MIT
"""BPF object files: what clang compiles, opened, configured, loaded."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType

from netkit_bpf import _core
from netkit_bpf.program import Program


class BPFObject:
    """A BPF object: its programs, maps and variables.

    Made by `open`. As a context manager it is loaded on entry and closed on exit. What is
    attached stays attached after `close`; the object's own programs, maps and variables are closed with it. One
    thread at a time may configure and load it.

    >>> with BPFObject.open("firewall.bpf.o") as firewall:  # doctest: +SKIP
    ...     link = pair.attach(firewall.programs["filter"], "peer")
    """

    def __init__(self, core: _core.Object, name: str) -> None:
        """Not for callers: use `open`."""
        self._core: _core.Object | None = core
        self._name = name
        self._loaded = False
        self._programs = {spec[0]: Program(*spec) for spec in core.programs()}

    @classmethod
    def open(cls, source: str | os.PathLike[str] | bytes) -> BPFObject:
        """Open an object file by its path, or its bytes.

        Raises:
            FileNotFoundError: there is no such file.
            OSError: it is no BPF object that can be loaded; the text says why.
        """
        if isinstance(source, bytes):
            return cls(_core.Object(source, "object"), "object")
        if not isinstance(source, (str, os.PathLike)):
            raise TypeError(f"source must be a path or bytes, not {type(source).__name__}")
        path = Path(source)
        name = path.name.split(".")[0] or "object"
        return cls(_core.Object(path.read_bytes(), name), name)

    @property
    def name(self) -> str:
        """The file's name without its extensions."""
        return self._name

    @property
    def programs(self) -> Mapping[str, Program]:
        """Its programs by name."""
        return MappingProxyType(self._programs)

    def load(self) -> None:
        """Hand maps and programs to the kernel.

        Raises:
            ValueError: the object is loaded or closed already.
            VerifierError: the kernel's verifier refused a program.
            PermissionError: CAP_BPF or CAP_NET_ADMIN is missing.
            OSError: the kernel refused something else.
        """
        core = self._open()
        if self._loaded:
            raise ValueError(f"BPF object {self._name} is loaded already")
        core.load()
        self._loaded = True
        for name, program in self._programs.items():
            program._core = core.open_program(name)

    def close(self) -> None:
        """Close the object with its programs, maps and variables. Idempotent."""
        self._core = None
        for program in self._programs.values():
            program._core = None
            program._closed = True

    def _open(self) -> _core.Object:
        if self._core is None:
            raise ValueError(f"BPF object {self._name} is closed")
        return self._core

    def __enter__(self) -> BPFObject:
        if not self._loaded:
            self.load()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._core is None else "loaded" if self._loaded else "open"
        return f"<BPFObject {self._name} {state}>"
