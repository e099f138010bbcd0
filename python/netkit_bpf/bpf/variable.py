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

    Made by `BPFObject.variables`. A constant (section .rodata) is set before load, others (.data, .bss) at any time:
    then the program sees it at once. Only the variable's own bytes are written, whatever lies beside it. Any thread may
    use it; a number of 1, 2, 4 or 8 bytes is read and written as a whole, also within a structure or array, of which
    parts may be older than others: what the program counts in one while it is set is overwritten.

    A section with what the kernel keeps to itself, such as a bpf_spin_lock, cannot be mapped: its variables are set
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
        """Its value, which may be set.

        Integers and pointers are int, enumerations members of an IntEnum where the number has a name, char arrays
        bytes up to the first zero, arrays of unsigned bytes bytes, other arrays tuples, structures and unions named
        tuples. Internet addresses are those of the module ipaddress, see `Map`.

        Raises:
            ValueError: its object is closed, or failed to load; or, to set it, it is a constant and the object is
                loaded.
            OSError: EOPNOTSUPP, to set it, its section cannot be mapped.
            TypeError: what it is set to is not of its type.
            OverflowError: what it is set to does not fit it; the text names the field and its range.
        """
        return self._codec.decode(self._open().read_variable(self._index))

    @value.setter
    def value(self, value: Any) -> None:
        core = self._open()
        if self._constant and self._loaded:
            raise ValueError(f"variable '{self._name}' is a constant: it is set before its object is loaded")
        core.write_variable(self._index, self._codec.encode(value, f"variable '{self._name}'"))

    def _open(self) -> CoreObject:
        core = self._core  # which another thread may let go of
        if core is None:
            raise ValueError(f"the object of variable '{self._name}' is closed")
        return core

    def __repr__(self) -> str:
        try:
            state = f"= {self.value!r}"
        except ValueError:
            state = "closed" if self._core is None else "of an object that failed to load"
        return f"<Variable {self.type} {self._name} ({self._section}) {state}>"
