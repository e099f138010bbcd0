# SPDX-License-Identifier: MIT
"""Maps: bpf(2), Documentation/bpf/maps.rst."""

from __future__ import annotations

import contextlib
import os
from collections.abc import ItemsView, Iterable, Iterator, MutableMapping, ValuesView
from typing import TYPE_CHECKING, Any, NoReturn

from netkit_bpf._core import BtfTypes
from netkit_bpf._core import Map as CoreMap
from netkit_bpf.bpf.map_base import MapBase
from netkit_bpf.bpf.map_definition import Typed, define
from netkit_bpf.bpf.map_elements import MapInfo, MapItems, MapValues
from netkit_bpf.bpf.map_types import ARRAYS, NO_ITEMS, Flags, Kind
from netkit_bpf.bpf.pin_path import pin_path
from netkit_bpf.bpf.program import Program
from netkit_bpf.btf.codec import Integer
from netkit_bpf.btf.types import Types
from netkit_bpf.internal.arguments import expect

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ANY, _NOEXIST, _EXIST = range(3)  # BPF_ANY and its like
_OF_MAPS = (Kind.ARRAY_OF_MAPS, Kind.HASH_OF_MAPS)
_REFERENCES = (*_OF_MAPS, Kind.PROG_ARRAY)  # values are descriptors when written, and ids when read
_QUEUES = (Kind.QUEUE, Kind.STACK)
_FULL_ARRAYS = (Kind.ARRAY, Kind.PERCPU_ARRAY)  # these always have all of their elements
_U32 = Integer("__u32", 4, signed=False)


class Map(MapBase, MutableMapping[Any, Any]):
    """A map, as a dict of values that are typed by BTF.

    Made by `BPFObject.maps`, `open_pinned` or `create`. Integers are int, structures are named tuples, arrays of
    unsigned bytes are bytes; without BTF, keys and values are bytes. A value of a per-CPU map is a tuple, one value for
    each possible CPU. The values of an array or hash of maps are maps, those of a program array are programs; reading
    them needs CAP_SYS_ADMIN.

    `struct in6_addr` and `__be32[4]` are IPv6Address, `struct in_addr` and `__be32` IPv4Address; each takes an object
    of the module ipaddress, its text, its bytes or its number. An array of 4 or 16 unsigned bytes also takes an address
    object. `__be16`, a port, and `__be64` are int in the host's order. In numpy arrays an IPv4 address is its number,
    as int(address), and an IPv6 address its 16 bytes. The key of an LPM trie may be a network or an address.

    Iteration goes over a copy, made in batches where the kernel has them (5.6), so the map may change meanwhile. A
    queue and a stack have `push`, `pop` and `peek` instead of keys, a bloom filter `push` and `in`. A ring buffer is
    read by `RingBuffer`. Any thread may use it. An argument of the wrong type raises TypeError; a number that does not
    fit raises OverflowError with the field and its range; a map that is closed or not loaded yet raises ValueError.

    >>> with BPFObject.open("counter.bpf.o") as counter:  # doctest: +SKIP
    ...     for address, packets in counter.maps["packets"].items():
    ...         print(address, sum(packets))
    """

    @classmethod
    def create(
        cls,
        type: str,  # noqa: A002 - as everywhere else
        *,
        max_entries: int,
        key_size: int = 0,
        value_size: int = 0,
        key: str = "",
        value: str = "",
        types: Typed | None = None,
        flags: Flags = 0,
        inner: Map | None = None,
        name: str = "",
    ) -> Map:
        """Make a map without an object, for example a ring buffer for an array of maps.

        Its keys and values are bytes, unless their types are named. The kernel does not store these types: wherever
        else the map is opened, they are bytes.

        Args:
            type: as bpftool(8) writes it: "hash", "ringbuf".
            max_entries: how many elements it holds at most; of a ring buffer, its bytes.
            key_size: bytes of a key.
            value_size: bytes of a value.
            key: instead of its size, the type of a key: "struct flow", "__u32".
            value: instead of its size, the type of a value.
            types: the object, or a map of one, that has these types.
            flags: `MapFlags`, or their names: "no_prealloc", ["no_prealloc", "mmapable"].
            inner: for a map of maps, a map like those that it holds.
            name: letters, digits, dots and underscores, at most 15.

        Raises:
            ValueError: there is no such map type or flag, or a number is not a valid size.
            LookupError: the object has no such type.
            OSError: EINVAL, a map of this type cannot be like that, and the text says why; ENOMEM, it is too large.

        >>> rings[cpu] = Map.create("ringbuf", max_entries=1 << 20)  # doctest: +SKIP
        >>> Map.create("lpm_trie", key_size=8, value_size=4, max_entries=64, flags="no_prealloc")  # doctest: +SKIP
        """
        wanted = define(type, max_entries, (key, key_size), (value, value_size), types, flags, name)
        like = None if inner is None else expect(inner, Map, "inner")._open()
        sizes = (wanted.key_size, wanted.value_size)
        core = CoreMap.create(wanted.type, wanted.name, wanted.max_entries, *sizes, wanted.flags, like)
        made = cls._opened(core)
        if types is not None:
            made._types = types._types
            made._info = made._info._replace(key_type=wanted.key_type, value_type=wanted.value_type)
        return made

    @classmethod
    def open_pinned(cls, path: str | os.PathLike[str]) -> Map:
        """Open a map that is pinned on a BPF file system.

        Raises:
            FileNotFoundError: nothing is pinned there.
            PermissionError: CAP_BPF is missing, or the file's mode forbids it.
            ValueError: what is pinned there is not a map.

        >>> with Map.open_pinned("/sys/fs/bpf/packets") as packets:  # doctest: +SKIP
        ...     print(packets.copy())
        """
        text = pin_path(path)
        return cls._opened(CoreMap.open_pinned(text), text)

    @classmethod
    def _opened(cls, core: CoreMap, pinned_at: str = "") -> Map:
        """A map that exists in the kernel already, with the types stored there."""
        info = MapInfo(*core.info())
        found = cls(info, Types(BtfTypes.from_kernel(info.btf)) if info.btf else None, pinned_at=pinned_at)
        found._core = core
        return found

    def __enter__(self) -> Map:
        if self._closed:
            raise ValueError(f"map '{self.name}' is closed")
        return self

    # --- Items.

    def __getitem__(self, key: Any) -> Any:
        core, raw = self._element(key)
        value = None if raw is None else core.lookup(raw)
        if value is None:
            raise KeyError(key)
        try:
            return self._to_value(value)
        except FileNotFoundError:  # its holder has closed the map or program meanwhile
            raise KeyError(key) from None

    def __setitem__(self, key: Any, value: Any) -> None:
        core, raw = self._element(key)
        if raw is None:
            raise KeyError(f"{key}: map '{self.name}' has the keys 0 to {self.max_entries - 1}")
        core.update(raw, self._from_value(value), _ANY)

    def __delitem__(self, key: Any) -> None:
        self._check_deletable()
        core, raw = self._element(key)
        if raw is None or not core.erase(raw):
            raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        if self._kind is Kind.BLOOM_FILTER:
            return self._open().may_hold(self._from_value(key))
        core, raw = self._element(key)
        return raw is not None and core.lookup(raw) is not None

    def __iter__(self) -> Iterator[Any]:
        return iter(self._elements.keys(self._keyed().read_all()[0]))

    def __len__(self) -> int:
        """The number of elements: counted, except for an array, which always has all of them."""
        core = self._keyed()
        return self.max_entries if self._kind in _FULL_ARRAYS else len(core.read_all()[0]) // self.key_size

    def __bool__(self) -> bool:
        if self._kind in NO_ITEMS:
            return True
        if self._kind in ARRAYS and self._kind not in _FULL_ARRAYS:  # each index is a key, whether it has an element
            return len(self) > 0
        return self._open().next_key(b"") is not None

    def values(self) -> ValuesView[Any]:
        """All values, copied when they are iterated over."""
        return MapValues(self)

    def items(self) -> ItemsView[Any, Any]:
        """All keys with their values, copied when they are iterated over."""
        return MapItems(self)

    def copy(self) -> dict[Any, Any]:
        """A dict of all elements, read in batches.

        `dict(map)` looks up the keys one by one, as Python does with any mapping, and raises KeyError if one is deleted
        meanwhile.

        >>> packets.copy()  # doctest: +SKIP
        {IPv4Address('10.0.0.1'): 12}
        """
        return dict(self._pairs())

    def update(self, other: Any = (), /, **more: Any) -> None:
        """Write the elements of a mapping or of pairs, as dict.update does; another map is copied as by `items`."""
        super().update(other.items() if isinstance(other, Map) else other, **more)

    def setdefault(self, key: Any, default: Any = None) -> Any:
        """Set the value if there is none, in one step; return the value that is there now."""
        core, raw = self._element(key)
        if raw is not None and core.update(raw, self._from_value(default), _NOEXIST):
            return default
        return self[key]

    def clear(self) -> None:
        """Delete all elements."""
        self._check_deletable()
        core = self._keyed()
        core.erase_all(core.read_all()[0])

    def popitem(self) -> tuple[Any, Any]:
        """Take an element out; KeyError if there is none."""
        self._check_deletable()
        core = self._keyed()
        key = core.next_key(b"")
        while key is not None:
            if (value := core.take(key)) is not None:
                return self._elements.key(key), self._to_value(value)
            key = core.next_key(key)
        raise KeyError(f"map '{self.name}' is empty")

    def pop(self, *arguments: Any) -> Any:
        """Take an element out: `pop(key)` or `pop(key, default)`, in one step where the kernel can (5.14).

        Of a queue or stack `pop()` takes the next one.

        Raises:
            KeyError: there is no such key, and no default.
            IndexError: the queue or stack is empty.
        """
        if self._kind in _QUEUES:
            if arguments:
                raise TypeError(f"pop() of a {self.type} takes no key")
            return self._next(self._open().take(b""))
        if not 1 <= len(arguments) <= 2:
            raise TypeError("pop() takes a key and perhaps a default")
        self._check_deletable()
        core, raw = self._element(arguments[0])
        value = None if raw is None else core.take(raw)
        if value is not None:
            return self._to_value(value)
        if len(arguments) == 2:
            return arguments[1]
        raise KeyError(arguments[0])

    # --- Queues, stacks, bloom filters.

    def push(self, value: Any, *, replace: bool = False) -> None:
        """Put a value into a queue, a stack or a bloom filter.

        Args:
            value: what goes in.
            replace: whether a full queue or stack drops its oldest value.

        Raises:
            TypeError: it is not such a map, or the value has another type.
            OSError: E2BIG, it is full.
        """
        if self._kind not in (*_QUEUES, Kind.BLOOM_FILTER):
            self._refuse("has keys, and no push()")
        self._open().update(b"", self._from_value(value), _EXIST if replace else _ANY)

    def peek(self) -> Any:
        """Return what `pop` of a queue or stack would return, and leave it there; IndexError if it is empty."""
        if self._kind not in _QUEUES:
            self._refuse("has no peek()")
        return self._next(self._open().lookup(b""))

    # --- Many at once.

    def lookup_batch(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Read all elements into two numpy arrays, keys and values; values of a per-CPU map have an axis for the CPUs.

        Structures become structured arrays with the field names of C. Their padding is written back as it was read; in
        copies of them, and in other arrays, it is taken as zero.
        """
        core = self._keyed()
        keys, values = core.read_all()
        return self._elements.key_array(keys), self._elements.value_array(values, core.value_room())

    def sum_cpus(self) -> list[int]:
        """Add up what the CPUs have in a per-CPU array, whose values are numbers of 64 bits or structures of such.

        The sums stand one behind the other, in the order of the keys and of the fields.

        Raises:
            TypeError: it is another type of map.

        >>> obj.maps["counts"].sum_cpus()  # doctest: +SKIP
        [12, 1008, 3, 180]
        """
        if self._kind is not Kind.PERCPU_ARRAY or self.value_size % 8:
            self._refuse("has no sum_cpus(): it is not a per-CPU array of 64-bit numbers")
        return self._open().sum_over_cpus()

    def update_batch(self, keys: Iterable[Any], values: Iterable[Any]) -> None:
        """Write many elements, in numpy arrays as `lookup_batch` gives them, or in any sequences.

        Raises:
            ValueError: the numbers of keys and values differ.
            OSError: the text says how many were written.
        """
        core = self._keyed()
        room = core.value_room()
        raw_keys = self._elements.raw_keys(keys)
        if self._kind in _REFERENCES:
            raw_values = b"".join(self._from_value(value) for value in values)
        else:
            raw_values = self._elements.raw_values(values, room)
        count = len(raw_keys) // self.key_size
        if len(raw_values) != count * room:
            raise ValueError(f"there are {count} keys and {len(raw_values) // room} values")
        core.write_all(raw_keys, raw_values)

    def delete_batch(self, keys: Iterable[Any]) -> int:
        """Delete many elements, and return how many of them existed."""
        self._check_deletable()
        return self._keyed().erase_all(self._elements.raw_keys(keys))

    # --- Within.

    def _repr_html_(self) -> str | None:
        from itertools import islice

        from netkit_bpf.internal.html import MOST_ROWS, facts, first, show

        def build() -> list[object]:
            described = facts(type=self.type, entries=f"at most {self.max_entries:,}", pinned_at=self.pinned_at)
            try:
                found = list(islice(self.items(), MOST_ROWS + 1))
            except (TypeError, OSError, ValueError):
                return [described]  # it has no keys, or is not loaded
            rows = [(str(key), str(value)) for key, value in found[:MOST_ROWS]]
            more = f", the first {MOST_ROWS}" if len(found) > MOST_ROWS else ""
            return [described, first(rows, ("key", "value"), f"elements{more}" if rows else "no elements")]

        return show(self, build)

    @property
    def _kind(self) -> Kind:
        return self._info.kind

    def _refuse(self, why: str) -> NoReturn:
        raise TypeError(f"map '{self.name}' is of type {self.type}, which {why}")

    def _check_deletable(self) -> None:
        if self._kind in _FULL_ARRAYS:
            self._refuse("keeps all its elements")

    def _keyed(self) -> CoreMap:
        """The map, if it has keys at all."""
        if self._kind in NO_ITEMS:
            self._refuse(NO_ITEMS[self._kind])
        return self._open()

    def _element(self, key: Any) -> tuple[CoreMap, bytes | None]:
        """The map and the bytes of a key; None for an index beyond the end of an array."""
        core = self._keyed()
        raw = self._elements.raw_key(key)
        index = self._elements.index(raw)
        return core, None if index is not None and index >= self.max_entries else raw

    def _to_value(self, raw: bytes) -> Any:
        if self._kind in _OF_MAPS:
            return Map._opened(CoreMap.open_id(_U32.decode(raw)))
        if self._kind is Kind.PROG_ARRAY:
            return Program._open_id(_U32.decode(raw), "")
        return self._elements.value(raw)

    def _from_value(self, value: Any) -> bytes:
        path = f"map '{self.name}' value"
        if self._kind in _OF_MAPS:
            return _U32.encode(expect(value, Map, path)._fileno(), path)
        if self._kind is Kind.PROG_ARRAY:
            return _U32.encode(expect(value, Program, path)._fileno(), path)
        return self._elements.raw_value(value, self._open().value_room())

    def _next(self, raw: bytes | None) -> Any:
        if raw is None:
            raise IndexError(f"map '{self.name}' is empty")
        return self._elements.value(raw)

    def _pairs(self) -> Iterator[tuple[Any, Any]]:
        """A copy of all keys with their values. A map or program that its holder has closed meanwhile is left out."""
        core = self._keyed()
        keys, values = core.read_all()
        room = core.value_room()
        for index, key in enumerate(self._elements.keys(keys)):
            with contextlib.suppress(FileNotFoundError):
                yield key, self._to_value(values[index * room : (index + 1) * room])
