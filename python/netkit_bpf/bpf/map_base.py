# SPDX-License-Identifier: MIT
"""What a map is, whatever it holds: its size, its pin, its life."""

from __future__ import annotations

import builtins
import functools
import os

from netkit_bpf._core import Map as CoreMap
from netkit_bpf._core import Object as CoreObject
from netkit_bpf.bpf.map_elements import Elements, MapInfo
from netkit_bpf.bpf.map_types import Kind, MapFlags
from netkit_bpf.btf.types import Types
from netkit_bpf.internal.arguments import expect, expect_in
from netkit_bpf.internal.resource import Closing

_ENTRIES = range(1, 1 << 32)
_SIZES = range(1, 1 << 32)


class MapBase(Closing):
    """A map without its elements: what `Map` is built on."""

    _warns = False  # what a map holds, others share or nobody wants

    def __init__(self, info: MapInfo, types: Types | None, *, pinned_at: str = "") -> None:
        self._core: CoreMap | None = None
        self._object: CoreObject | None = None  # until it is loaded
        self._closed = False
        self._autocreate = True
        self._info = info
        self._types = types
        self._pinned_at = pinned_at
        self._counts: MapBase | None = None  # in which the program counts what it writes into this ring buffer

    def _of(self) -> str:
        return self._info.name

    @property
    def name(self) -> str:
        """Its name in the source; of a map that was opened the kernel's, at most 15 bytes."""
        return self._info.name

    @property
    def type(self) -> str:
        """Its type as bpftool(8) writes it: "hash", "percpu_array"."""
        return self._info.kind.name.lower()

    @property
    def id(self) -> int:
        """The number by which the kernel knows it, once it is loaded."""
        return self._open().info()[0]

    @property
    def flags(self) -> MapFlags:
        """How it is made."""
        return MapFlags(self._info.flags)

    @property
    def autocreate(self) -> bool:
        """Whether it is made when its object is loaded (libbpf's word). It may be set until then.

        A program that uses a map which is not made is refused, unless it is not loaded either (`Program.autoload`).

        Raises:
            ValueError: the object is loaded already, or closed.
        """
        return self._autocreate

    @autocreate.setter
    def autocreate(self, autocreate: bool) -> None:
        expect(autocreate, bool, "autocreate")
        self._unloaded("autocreate is set").set_autocreate(self.name, autocreate)
        self._autocreate = autocreate

    @property
    def key_size(self) -> int:
        """Bytes of a key."""
        return self._info.key_size

    @property
    def value_size(self) -> int:
        """Bytes of a value; of a per-CPU map, of one CPU's.

        It may be set until the object is loaded, where the source gives the values a size and no type.

        Raises:
            ValueError: the object is loaded already, the values have a type, or the number is no size.
        """
        return self._info.value_size

    @value_size.setter
    def value_size(self, size: int) -> None:
        expect_in(size, _SIZES, "value_size")
        unloaded = self._unloaded("value_size is set")
        if self._info.value_type or not self._info.value_size:
            what = "have a type" if self._info.value_type else "have no size"
            raise ValueError(f"the values of map '{self.name}' {what}, which is not changed")
        unloaded.set_value_size(self.name, size)
        self._info = self._info._replace(value_size=size)
        self.__dict__.pop("_elements", None)

    @property
    def max_entries(self) -> int:
        """How many elements it holds at most; of a ring buffer, its bytes.

        It may be set until the object is loaded. A ring buffer's is a power of two and a multiple of the page size.

        Raises:
            ValueError: the object is loaded already, or the number is no size.
        """
        return self._info.max_entries

    @max_entries.setter
    def max_entries(self, entries: int) -> None:
        check_max_entries(self._info.kind, entries)
        self._unloaded("max_entries is set").set_max_entries(self.name, entries)
        self._info = self._info._replace(max_entries=entries)

    def reuse(self, other: MapBase) -> None:
        """Take another map for this one, instead of making it, when the object is loaded.

        Both must be of one type, with keys and values of one size. To share a map by its name, give it
        `__uint(pinning, LIBBPF_PIN_BY_NAME)` in the source: who loads it first pins it, others find it.

        Raises:
            ValueError: they do not fit each other, or the object is loaded already.
        """
        if not isinstance(other, MapBase):
            raise TypeError(f"other must be a Map, not {builtins.type(other).__name__}")
        theirs = MapInfo(*other._open().info())
        sizes = [] if self._info.kind is Kind.RINGBUF else ["key_size", "value_size"]
        for name in ["type", "flags", *sizes]:
            here, there = getattr(self._info, name), getattr(theirs, name)
            if here != there:
                raise ValueError(f"map '{self.name}' cannot be map '{other.name}': {name} {here} here, {there} there")
        self._unloaded("another is reused").reuse_map(self.name, other._fileno())
        self._info = self._info._replace(max_entries=theirs.max_entries)

    def pin(self, path: str | os.PathLike[str]) -> None:
        """Give the map a name on a BPF file system, which keeps it without this process.

        Raises:
            FileExistsError: the path is taken.
            FileNotFoundError: its directory does not exist.
            ValueError: the map is pinned already.
            OSError: the path is not on a BPF file system (`mount -t bpf bpf /sys/fs/bpf`); names on one have no dots.
        """
        text = path_text(path)
        core = self._open()
        if self._pinned_at:
            raise ValueError(f"map '{self.name}' is pinned at {self._pinned_at} already")
        core.pin(text)
        self._pinned_at = text

    def unpin(self) -> None:
        """Remove the name that `pin` gave, or by which the map was found. It stays while somebody holds it.

        Raises:
            ValueError: the map is not pinned by this object.
            FileNotFoundError: somebody else removed the name.
        """
        core = self._open()
        if not self._pinned_at:
            raise ValueError(f"map '{self.name}' is not pinned")
        core.unpin(self._pinned_at)
        self._pinned_at = ""

    @property
    def pinned_at(self) -> str | None:
        """The path at which this object pinned the map, or found it."""
        return self._pinned_at or None

    def close(self) -> None:
        """Let go of the map. Idempotent."""
        self._closed = True
        self._core = None
        self._object = None

    @property
    def closed(self) -> bool:
        """Whether it, or its object, was closed."""
        return self._closed

    def __repr__(self) -> str:
        core = self._core  # which another thread may let go of
        unmade = "not loaded" if self._object is not None else "not made"
        state = "closed" if self._closed else unmade if core is None else f"id {core.info()[0]}"
        return f"<Map {self.name} ({self.type}) {state}>"

    @functools.cached_property
    def _elements(self) -> Elements:
        """How its elements become Python's: made when they are first asked for, because few maps' are."""
        return Elements(self._info, self._types)

    def _fileno(self) -> int:
        """The descriptor, which stays this map's."""
        return self._open().fileno()

    def _open(self) -> CoreMap:
        core = self._core  # which another thread may let go of
        if self._closed:
            raise ValueError(f"map '{self.name}' is closed")
        if core is None and self._object is not None:
            raise ValueError(f"map '{self.name}' is not loaded: call load() of its object first")
        if core is None:
            raise ValueError(f"map '{self.name}' was not made: set its autocreate before load()")
        return core

    def _unloaded(self, what: str) -> CoreObject:
        unloaded = self._object
        if unloaded is None:
            raise ValueError(f"map '{self.name}' is {'closed' if self._closed else 'loaded'}: {what} before load")
        return unloaded

    def _load(self, core: CoreMap | None) -> None:
        """Take what the kernel has made of it; None if nothing."""
        self._core = core
        self._object = None
        if core is None:
            return
        theirs = MapInfo(*core.info())
        self._info = self._info._replace(max_entries=theirs.max_entries, value_size=theirs.value_size)


def check_max_entries(kind: Kind, entries: int) -> None:
    """Refuse what no map of this type can have."""
    expect_in(entries, _ENTRIES, "max_entries")
    page = os.sysconf("SC_PAGESIZE")
    if kind is Kind.RINGBUF and (entries & (entries - 1) or entries < page):
        raise ValueError(f"max_entries of a ring buffer must be a power of two from {page}, not {entries}")


def path_text(path: str | os.PathLike[str]) -> str:
    """The path as a str; TypeError or ValueError where it is none."""
    text = os.fspath(path) if isinstance(path, (str, os.PathLike)) else path
    if not isinstance(text, str):
        raise TypeError(f"path must be a path, not {type(path).__name__}")
    if not text or "\0" in text:
        raise ValueError(f"{text!r} is no path")
    return text
