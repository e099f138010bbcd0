# SPDX-License-Identifier: MIT
"""Global variables of a BPF program: Documentation/bpf/libbpf/libbpf_overview.rst."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from netkit_bpf._core import Object as CoreObject
from netkit_bpf.btf.codec import Codec


class Variable:
    """A global variable of a BPF object, typed by the object's BTF.

    Made by `BPFObject.variables`. A constant (section .rodata) must be set before load. Others (.data, .bss) can be set
    at any time, and the program sees the new value at once. Only the variable's own bytes are written. Any thread may
    use it. Each number of 1, 2, 4 or 8 bytes is read and written as a whole; a structure or array is not, so some of
    its parts may be older than others. What the program counts in a variable while it is being set is overwritten.

    A section that holds objects of the kernel, such as a bpf_spin_lock, cannot be mapped: its variables can be set
    before load only.

    >>> with BPFObject.open("filter.bpf.o") as program:  # doctest: +SKIP
    ...     program.variables["blocked_port"].value = 12345
    """

    def __init__(
        self, core: CoreObject, index: int, name: str, section: str, codec: Callable[[], Codec], constant: bool
    ) -> None:
        # The codec is made when it is first needed.
        self._core: CoreObject | None = core
        self._index = index
        self._name = name
        self._section = section
        self._make_codec = codec
        self._constant = constant
        self._loaded = False

    @functools.cached_property
    def _codec(self) -> Codec:
        return self._make_codec()

    @property
    def name(self) -> str:
        """Its name in the source."""
        return self._name

    @property
    def section(self) -> str:
        """Where it lies: ".rodata", ".data", ".bss"."""
        return self._section

    @property
    def type(self) -> str:
        """The name of its C type."""
        return self._codec.name

    @property
    def value(self) -> Any:
        """The value; it can be set.

        Integers and pointers are int; enumerations are members of an IntEnum if the number has a name; char arrays are
        bytes up to the first zero; arrays of unsigned bytes are bytes; other arrays are tuples; structures and unions
        are named tuples. Internet addresses are objects of the module ipaddress, see `Map`.

        Raises:
            ValueError: its object is closed, or failed to load; on setting, it is a constant and the object is loaded.
            OSError: EOPNOTSUPP, on setting, its section cannot be mapped.
            TypeError: the new value has another type.
            OverflowError: the new value does not fit; the text names the field and its range.
        """
        return self._codec.decode(self._open().read_variable(self._index))

    @value.setter
    def value(self, value: Any) -> None:
        core = self._open()
        if self._constant and self._loaded:
            raise ValueError(f"variable '{self._name}' is a constant: set it before its object is loaded")
        core.write_variable(self._index, self._codec.encode(value, f"variable '{self._name}'"))

    def _open(self) -> CoreObject:
        core = self._core  # another thread may close it
        if core is None:
            raise ValueError(f"the object of variable '{self._name}' is closed")
        return core

    def __repr__(self) -> str:
        try:
            state = f"= {self.value!r}"
        except ValueError:
            state = "closed" if self._core is None else "of an object that failed to load"
        return f"<Variable {self.type} {self._name} ({self._section}) {state}>"
