# SPDX-License-Identifier: MIT
"""The properties of every map, whatever its elements: size, pin, life time."""

from __future__ import annotations

import builtins
import functools
import os

from netkit_bpf._core import Map as CoreMap
from netkit_bpf.bpf.loadable import Loadable
from netkit_bpf.bpf.map_elements import Elements, MapInfo
from netkit_bpf.bpf.map_types import Kind, MapFlags
from netkit_bpf.bpf.pin_path import pin_path
from netkit_bpf.btf.types import Types
from netkit_bpf.internal.arguments import expect, expect_in
from netkit_bpf.internal.resource import Closing

_ENTRIES = range(1, 1 << 32)
_SIZES = range(1, 1 << 32)


class MapBase(Loadable[CoreMap], Closing):
    """A map without its elements: what `Map` is built on."""

    _kind_called = "map"
    _unmade = "was not made: set its autocreate before load()"
    _warns = False  # a lost map does no harm: others share its contents, or nobody needs them

    def __init__(self, info: MapInfo, types: Types | None, *, pinned_at: str = "") -> None:
        expect(info, MapInfo, "info", "Map.create() makes a map, Map.open_pinned() takes a path")
        super().__init__(info.name)
        self._autocreate = True
        self._info = info
        self._types = types
        self._pinned_at = pinned_at
        self._counts: MapBase | None = None  # where the program counts what it writes into this ring buffer

    def _of(self) -> str:
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
        """The flags it is made with."""
        return MapFlags(self._info.flags)

    @property
    def autocreate(self) -> bool:
        """Whether the map is made when its object is loaded (libbpf's term). It can be set until then.

        The kernel refuses a program that uses a map which is not made; leave it out too (`Program.autoload`).

        Raises:
            ValueError: the object is loaded already, or closed.
        """
        return self._autocreate

    @autocreate.setter
    def autocreate(self, autocreate: bool) -> None:
        expect(autocreate, bool, "autocreate")
        self._unloaded("set autocreate").set_autocreate(self.name, autocreate)
        self._autocreate = autocreate

    @property
    def key_size(self) -> int:
        """Bytes of a key."""
        return self._info.key_size

    @property
    def value_size(self) -> int:
        """Bytes of a value; for a per-CPU map, of the value of one CPU.

        It can be set until the object is loaded, if the source gives the values a size but no type.

        Raises:
            ValueError: the object is loaded already, the values have a type, or the number is not a valid size.
        """
        return self._info.value_size

    @value_size.setter
    def value_size(self, size: int) -> None:
        expect_in(size, _SIZES, "value_size")
        unloaded = self._unloaded("set value_size")
        if self._info.value_type or not self._info.value_size:
            what = "have a type" if self._info.value_type else "have no size"
            raise ValueError(f"the values of map '{self.name}' {what}, which cannot be changed")
        unloaded.set_value_size(self.name, size)
        self._info = self._info._replace(value_size=size)
        self.__dict__.pop("_elements", None)

    @property
    def max_entries(self) -> int:
        """How many elements it can hold; for a ring buffer, its size in bytes.

        It may be set until the object is loaded. A ring buffer's is a power of two and a multiple of the page size.

        Raises:
            ValueError: the object is loaded already, or the number is not a valid size.
        """
        return self._info.max_entries

    @max_entries.setter
    def max_entries(self, entries: int) -> None:
        check_max_entries(self._info.kind, entries)
        self._unloaded("set max_entries").set_max_entries(self.name, entries)
        self._info = self._info._replace(max_entries=entries)

    def reuse(self, other: MapBase) -> None:
        """Use another map in place of this one when the object is loaded.

        Both must have the same type and the same key and value sizes. To share a map by its name, give it
        `__uint(pinning, LIBBPF_PIN_BY_NAME)` in the source: the first process that loads it pins it, later ones find
        it.

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
        self._unloaded("reuse another map").reuse_map(self.name, other._fileno())
        self._info = self._info._replace(max_entries=theirs.max_entries)

    def pin(self, path: str | os.PathLike[str]) -> None:
        """Give the map a name on a BPF file system, which keeps it without this process.

        Raises:
            FileExistsError: the path is taken.
            FileNotFoundError: its directory does not exist.
            ValueError: the map is pinned already.
            OSError: the path is not on a BPF file system (`mount -t bpf bpf /sys/fs/bpf`); names on one have no dots.
        """
        text = pin_path(path)
        core = self._open()
        if self._pinned_at:
            raise ValueError(f"map '{self.name}' is pinned at {self._pinned_at} already")
        core.pin(text)
        self._pinned_at = text

    def unpin(self) -> None:
        """Remove the name that `pin` gave, or by which the map was found. The map stays while anything holds it.

        Raises:
            ValueError: the map is not pinned by this object.
            FileNotFoundError: another process removed the name.
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

    def __repr__(self) -> str:
        core = self._core  # another thread may close it
        unmade = "not loaded" if self._object is not None else "not made"
        state = "closed" if self._closed else unmade if core is None else f"id {core.info()[0]}"
        return f"<Map {self.name} ({self.type}) {state}>"

    @functools.cached_property
    def _elements(self) -> Elements:
        """How its elements become Python values; made on first use, because few maps are read."""
        return Elements(self._info, self._types)

    def _load(self, core: CoreMap | None) -> None:
        """Take what the kernel has made of it, and the sizes that it gave it."""
        super()._load(core)
        if core is None:
            return
        theirs = MapInfo(*core.info())
        self._info = self._info._replace(max_entries=theirs.max_entries, value_size=theirs.value_size)


def check_max_entries(kind: Kind, entries: int) -> None:
    """Refuse a number that no map of this type can have."""
    expect_in(entries, _ENTRIES, "max_entries")
    page = os.sysconf("SC_PAGESIZE")
    if kind is Kind.RINGBUF and (entries & (entries - 1) or entries < page):
        raise ValueError(f"max_entries of a ring buffer must be a power of two from {page}, not {entries}")
