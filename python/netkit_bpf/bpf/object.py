# SPDX-License-Identifier: MIT
"""BPF object files: what clang compiles, opened, configured, loaded."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from netkit_bpf._core import Object as CoreObject
from netkit_bpf.bpf.map import Map
from netkit_bpf.bpf.map_elements import MapInfo
from netkit_bpf.bpf.program import Program
from netkit_bpf.bpf.variable import Variable
from netkit_bpf.btf.codec import Codec, Raw
from netkit_bpf.btf.structure import Structure
from netkit_bpf.btf.types import Types
from netkit_bpf.enums import Direction, Side
from netkit_bpf.internal.arguments import expect
from netkit_bpf.internal.named import Named
from netkit_bpf.internal.resource import Closing

_BPF_FILE_SYSTEM = "/sys/fs/bpf"


class BPFObject(Closing):
    """A BPF object: its programs, maps and variables.

    Made by `open` or `compile`. As a context manager it is loaded on entry and closed on exit. Links and pins outlast
    `close`; the object's own programs, maps and variables are closed with it. One thread at a time may configure and
    load it.

    >>> with BPFObject.open("firewall.bpf.o") as firewall:  # doctest: +SKIP
    ...     link = pair.attach(firewall.programs["filter"], "peer")
    """

    def __init__(self, core: CoreObject, name: str) -> None:
        expect(core, CoreObject, "core", "BPFObject.open() takes a path, BPFObject.compile() a source")
        self._core: CoreObject | None = core
        self._name = name
        self._loaded = False
        table = core.types()
        self._types = Types(table) if table is not None else None
        self._programs: dict[str, Program] = {}
        for program, section, kind, autoload in core.programs():
            self._programs[program] = Program(program, section, kind)
            self._programs[program]._autoload = autoload
            self._programs[program]._object = core
        self._maps: dict[str, Map] = {}
        for map_name, info, pin_path, autocreate in core.maps():
            self._maps[map_name] = Map(MapInfo(*info), self._types, pinned_at=pin_path)
            self._maps[map_name]._autocreate = autocreate
            self._maps[map_name]._object = core
        for map_name, each in self._maps.items():
            if each.type == "ringbuf":
                each._counts = self._maps.get(f"{map_name}_counts", self._maps.get("counts"))
        self._variables: dict[str, Variable] = {}
        for index, (variable, section, number, size, constant) in enumerate(core.variables()):
            codec = functools.partial(_codec, self._types, number, size)
            self._variables.setdefault(variable, Variable(core, index, variable, section, codec, constant))

    @classmethod
    def open(
        cls,
        source: str | os.PathLike[str] | bytes | bytearray | memoryview,
        *,
        pin_root: str | os.PathLike[str] = _BPF_FILE_SYSTEM,
    ) -> BPFObject:
        """Open an object file by its path, or its bytes.

        Args:
            source: the path, or the bytes.
            pin_root: the directory on a BPF file system for maps that are pinned by name (LIBBPF_PIN_BY_NAME): if one
                is pinned there already it is reused, else it is made and pinned.

        Raises:
            FileNotFoundError: there is no such file.
            OSError: ENOEXEC, it is not a BPF object, or is damaged; the text says in what way.
        """
        if isinstance(source, (bytes, bytearray, memoryview)):
            return cls._open(bytes(source), "object", pin_root)
        if not isinstance(source, (str, os.PathLike)):
            raise TypeError(f"source must be a path or bytes, not {type(source).__name__}")
        path = Path(source)
        return cls._open(path.read_bytes(), path.name.split(".")[0] or "object", pin_root)

    @classmethod
    def compile(
        cls, source: str, *, cflags: Sequence[str] = (), pin_root: str | os.PathLike[str] = _BPF_FILE_SYSTEM
    ) -> BPFObject:
        """Compile a program in C with clang, and open the result.

        `#include <netkit.h>` gives it what a netkit program needs: the context, the verdicts, the protocols' headers
        and libbpf's helpers. It and all that it includes ship with this package.

        Args:
            source: the text of the program.
            cflags: more arguments for clang: "-DPORT=12345", "-Iinclude".
            pin_root: see `open`.

        Raises:
            ValueError: the source is the name of a file.
            CompileError: clang refuses the source; the text is clang's.
            FileNotFoundError: there is no clang. The environment variable CLANG can name one.

        >>> with BPFObject.compile('''  # doctest: +SKIP
        ... #include <netkit.h>
        ...
        ... SEC("netkit/peer")
        ... int drop_all(struct __sk_buff *skb)
        ... {
        ...     return NETKIT_DROP;
        ... }
        ... ''') as program:
        ...     link = pair.attach(program.programs["drop_all"], "peer")
        """
        from netkit_bpf.bpf.compiler import compile_source

        return cls._open(compile_source(source, cflags), "program", pin_root)

    @classmethod
    def _open(cls, image: bytes, name: str, pin_root: str | os.PathLike[str]) -> BPFObject:
        return cls(CoreObject(image, name, os.fspath(pin_root)), name)

    @property
    def name(self) -> str:
        """The file's name without its extensions."""
        return self._name

    @property
    def programs(self) -> Mapping[str, Program]:
        """Its programs by name."""
        return Named("program", self._programs)

    def program_for(self, side: Side | Direction | str) -> Program:
        """The program that is meant for a hook: the only one, or that whose section alone ends in the hook's side.

        Args:
            side: "primary", "peer", "ingress" or "egress", as `Hook.side` has it. SEC("netkit/peer") is for the peer's
                hook, SEC("tc/ingress") for an ingress hook.

        Raises:
            ValueError: there is no such side.
            LookupError: it is not clear which.

        >>> hook.attach(obj.program_for(hook.side))  # doctest: +SKIP
        """
        if side not in (*Side, *Direction):
            raise ValueError(f"side must be 'primary', 'peer', 'ingress' or 'egress', not {side!r}")
        programs = list(self._programs.values())
        named = [each for each in programs if each.section.split("/")[-1] == side]
        for fitting in (programs, named):
            if len(fitting) == 1:
                return fitting[0]
        there = ", ".join(f'{each.name} (SEC("{each.section}"))' for each in programs) or "none"
        raise LookupError(
            f"which program of {self._name} is for the {side} hook is not clear: of several, one must have a section"
            f' that ends in "/{side}"; there are {there}'
        )

    @property
    def maps(self) -> Mapping[str, Map]:
        """Its maps by name."""
        return Named("map", self._maps)

    @property
    def variables(self) -> Mapping[str, Variable]:
        """Its global variables by name.

        Raises:
            ValueError: the object has no BTF, which describes them: compile it with -g.
        """
        if self._types is None:
            raise ValueError(f"BPF object {self._name} has no BTF, so its variables are not known: compile it with -g")
        return Named("variable", self._variables, ": set variables[{name!r}].value")

    def load(self) -> None:
        """Load maps and programs into the kernel, except those that `autoload` and `autocreate` leave out.

        Raises:
            ValueError: the object is loaded or closed already, or failed to load before.
            VerifierError: the kernel's verifier refused a program.
            PermissionError: CAP_BPF or CAP_NET_ADMIN is missing.
            OSError: the kernel refused something else; the text says what.
        """
        core = self._core  # another thread may close it
        if core is None:
            raise ValueError(f"BPF object {self._name} is closed")
        if self._loaded:
            raise ValueError(f"BPF object {self._name} is loaded already")
        core.load()  # raises if an earlier load failed
        self._loaded = True
        for name, program in self._programs.items():
            program._load(core.open_program(name) if core.program(name) >= 0 else None)
        for name, each in self._maps.items():
            each._load(core.open_map(name) if core.map(name) >= 0 else None)
        for variable in self._variables.values():
            variable._loaded = True

    def close(self) -> None:
        """Close the object with its programs, maps and variables. Idempotent."""
        self._core = None
        for program in self._programs.values():
            program.close()
        for each in self._maps.values():
            each.close()
        for variable in self._variables.values():
            variable._core = None

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._core is None

    def __enter__(self) -> BPFObject:
        if self._core is None or not self._loaded:
            self.load()
        return self

    def _let_go_of(self) -> str:
        # Not closed: one of its programs or maps may still be in use.
        return "was never closed: keep it for as long as its programs and maps are needed, and use `with`"

    def _noun(self) -> str:
        return f"BPFObject {self._name}" if self._loaded and not self.closed else ""

    def _repr_html_(self) -> str | None:
        from netkit_bpf.internal.html import first, show

        def build() -> list[object]:
            programs = [
                (each.name, each.section, str(each.id) if self._loaded else "") for each in self._programs.values()
            ]
            maps = [
                (each.name, each.type, each.key_size, each.value_size, each.max_entries) for each in self._maps.values()
            ]
            variables = [] if self._types is None else [(v.name, v.type, v.section) for v in self._variables.values()]
            return [
                first(rows, header, caption)
                for rows, header, caption in (
                    (programs, ("name", "section", "id"), "programs"),
                    (maps, ("name", "type", "key bytes", "value bytes", "entries"), "maps"),
                    (variables, ("name", "type", "section"), "variables"),
                )
                if rows
            ]

        return None if self.closed else show(self, build)

    def __repr__(self) -> str:
        core = self._core  # another thread may close it
        unloaded = "failed to load" if core and core.has_failed() else "open"
        state = "closed" if core is None else "loaded" if self._loaded else unloaded
        return f"<BPFObject {self._name} {state}>"


def _codec(types: Types | None, number: int, size: int) -> Codec:
    codec = types.codec(number) if types else None
    if isinstance(codec, Structure) and codec.tails and size > codec.size:
        codec = codec.of_bytes(size)
    return codec if codec and codec.size == size else Raw(size)
