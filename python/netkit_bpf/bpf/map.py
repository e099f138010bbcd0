# SPDX-License-Identifier: MIT
"""Maps: bpf(2), Documentation/bpf/maps.rst."""

from __future__ import annotations

import os
import re
from collections.abc import ItemsView, Iterable, Iterator, MutableMapping, ValuesView
from typing import TYPE_CHECKING, Any, NoReturn

from netkit_bpf._core import BtfTypes
from netkit_bpf._core import Map as CoreMap
from netkit_bpf.bpf.map_base import MapBase, check_max_entries, path_text
from netkit_bpf.bpf.map_elements import MapInfo
from netkit_bpf.bpf.map_types import NO_ITEMS, Kind
from netkit_bpf.bpf.program import Program
from netkit_bpf.btf.codec import Integer
from netkit_bpf.btf.types import Types
from netkit_bpf.internal.arguments import expect, expect_in

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ANY, _NOEXIST, _EXIST = range(3)  # BPF_ANY and its like
_OF_MAPS = (Kind.ARRAY_OF_MAPS, Kind.HASH_OF_MAPS)
_REFERENCES = (*_OF_MAPS, Kind.PROG_ARRAY)  # their values are descriptors when written, numbers when read
_QUEUES = (Kind.QUEUE, Kind.STACK)
_FULL_ARRAYS = (Kind.ARRAY, Kind.PERCPU_ARRAY)  # they have all of their elements always
_U32 = Integer("__u32", 4, signed=False)


class Map(MapBase, MutableMapping[Any, Any]):
    """A map, as a dict of values that are typed by BTF.

    Made by `BPFObject.maps`, opened where it is pinned, or made by `create`. Integers are int, structures named
    tuples, arrays of unsigned bytes bytes; without BTF keys and values are bytes. A per-CPU map has a tuple of values,
    one for each possible CPU. Values of an array or hash of maps are maps, of a program array programs; reading them
    needs CAP_SYS_ADMIN.

    Iterating goes over a copy, made in batches where the kernel has them (5.6): meanwhile anybody may change the
    map. A queue and a stack have `push`, `pop` and `peek` instead of keys, a bloom filter `push` and `in`. A ring
    buffer is read by `RingBuffer`. Any thread may use it. An argument that is not of the map's type is a TypeError, a
    number that does not fit an OverflowError, with the field and its range; a map that is closed or not loaded yet is
    a ValueError.

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
        name: str = "",
    ) -> Map:
        """Make a map without an object: a ring buffer for an array of maps, say. Its keys and values are bytes.

        Args:
            type: as bpftool(8) writes it: "hash", "ringbuf".
            max_entries: how many elements it holds at most; of a ring buffer, its bytes.
            key_size: bytes of a key.
            value_size: bytes of a value.
            name: letters, digits, dots and underscores, at most 15.

        Raises:
            ValueError: there is no such type, or a number is no size.
            OSError: EINVAL, a map of this type is not like that; ENOMEM, it is too large.

        >>> rings[cpu] = Map.create("ringbuf", max_entries=1 << 20)  # doctest: +SKIP
        """
        kinds = {kind.name.lower(): kind for kind in Kind if kind is not Kind.UNKNOWN}
        if expect(type, str, "type") not in kinds:
            raise ValueError(f"type {type!r} is no type of map: there are {', '.join(kinds)}")
        check_max_entries(kinds[type], max_entries)
        expect_in(key_size, range(1 << 32), "key_size")
        expect_in(value_size, range(1 << 32), "value_size")
        if not re.fullmatch(r"[\w.]{0,15}", expect(name, str, "name"), re.ASCII):
            raise ValueError(f"name {name!r} must be letters, digits, dots and underscores, at most 15")
        return cls._opened(CoreMap.create(kinds[type], name, max_entries, key_size, value_size))

    @classmethod
    def open_pinned(cls, path: str | os.PathLike[str]) -> Map:
        """Open a map that is pinned on a BPF file system.

        Raises:
            FileNotFoundError: nothing is pinned there.
            PermissionError: CAP_BPF is missing, or the file's mode forbids it.
            ValueError: what is pinned there is no map.

        >>> with Map.open_pinned("/sys/fs/bpf/packets") as packets:  # doctest: +SKIP
        ...     print(dict(packets))
        """
        text = path_text(path)
        return cls._opened(CoreMap.open_pinned(text), text)

    @classmethod
    def _opened(cls, core: CoreMap, pinned_at: str = "") -> Map:
        """A map that the kernel holds already, with the types that it keeps."""
        info = MapInfo(*core.info())
        found = cls(info, Types(BtfTypes.from_kernel(info.btf)) if info.btf else None, pinned_at=pinned_at)
        found._core = core
        return found

    def __enter__(self) -> Map:
        return self

    # --- Items.

    def __getitem__(self, key: Any) -> Any:
        core, raw = self._element(key)
        value = None if raw is None else core.lookup(raw)
        if value is None:
            raise KeyError(key)
        return self._to_value(value)

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
        """How many elements there are: counted, unless it is an array, which has all of them always."""
        core = self._keyed()
        return self.max_entries if self._kind in _FULL_ARRAYS else len(core.read_all()[0]) // self.key_size

    def __bool__(self) -> bool:
        return self._kind in NO_ITEMS or self._open().next_key(b"") is not None

    def values(self) -> ValuesView[Any]:
        """All values, copied when they are iterated over."""
        return _Values(self)

    def items(self) -> ItemsView[Any, Any]:
        """All keys with their values, copied when they are iterated over."""
        return _Items(self)

    def setdefault(self, key: Any, default: Any = None) -> Any:
        """Set the value where there is none, in one step; return the value that is there then."""
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
        while (key := core.next_key(b"")) is not None:
            if (value := core.take(key)) is not None:
                return self._elements.key(key), self._to_value(value)
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
            TypeError: it is another type of map, or the value of another type.
            OSError: E2BIG, it is full.
        """
        if self._kind not in (*_QUEUES, Kind.BLOOM_FILTER):
            self._refuse("has keys, and no push()")
        self._open().update(b"", self._from_value(value), _EXIST if replace else _ANY)

    def peek(self) -> Any:
        """Return what `pop` of a queue or stack would, and leave it there; IndexError if there is nothing."""
        if self._kind not in _QUEUES:
            self._refuse("has no peek()")
        return self._next(self._open().lookup(b""))

    # --- Many at once.

    def lookup_batch(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Read all elements into numpy arrays: one of keys, one of values; of a per-CPU map with an axis for the CPUs.

        Structures become structured arrays with the fields' names in C.
        """
        core = self._keyed()
        keys, values = core.read_all()
        return self._elements.key_array(keys), self._elements.value_array(values, core.value_room())

    def update_batch(self, keys: Iterable[Any], values: Iterable[Any]) -> None:
        """Write many elements, in numpy arrays as `lookup_batch` gives them, or in any sequences.

        Raises:
            ValueError: there are more of the ones than of the others.
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
        """Delete many elements, and return how many of them there were."""
        self._check_deletable()
        return self._keyed().erase_all(self._elements.raw_keys(keys))

    # --- Within.

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
        """The map and a key's bytes; None for an index beyond an array's end."""
        core = self._keyed()
        raw = self._elements.raw_key(key)
        index = self._elements.index(key)
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

    def _read(self) -> tuple[list[Any], Iterator[Any]]:
        """A copy of all keys, and of the values that belong to them."""
        core = self._keyed()
        keys, values = core.read_all()
        room = core.value_room()
        return self._elements.keys(keys), (self._to_value(values[at : at + room]) for at in range(0, len(values), room))


class _Values(ValuesView[Any]):
    _mapping: Map

    def __iter__(self) -> Iterator[Any]:
        return self._mapping._read()[1]


class _Items(ItemsView[Any, Any]):
    _mapping: Map

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        return zip(*self._mapping._read(), strict=True)
