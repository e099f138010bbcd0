# SPDX-License-Identifier: MIT
"""Keys and values of a map: their bytes in the kernel and their values in Python."""

from __future__ import annotations

import sys
from collections.abc import ItemsView, Iterable, Iterator, ValuesView
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from netkit_bpf.bpf.map_types import ARRAYS, PER_CPU, Kind
from netkit_bpf.btf import arrays
from netkit_bpf.btf.addresses import ADDRESS_CLASSES, PREFIXES
from netkit_bpf.btf.codec import CharArray, Codec, Integer, Raw
from netkit_bpf.btf.structure import Structure
from netkit_bpf.btf.types import Types

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SLOT = 8  # bytes; the value of each CPU is padded to a multiple


class MapInfo(NamedTuple):
    """What the kernel, or an object file, says of a map: struct bpf_map_info."""

    id: int
    type: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int
    name: str
    btf: int
    key_type: int
    value_type: int

    @property
    def kind(self) -> Kind:
        """Its type, if this package knows it."""
        return Kind(self.type) if self.type in Kind._value2member_map_ else Kind.UNKNOWN


class Elements:
    """Converts keys and values of one map to Python values, and back. Immutable: any thread may use it."""

    def __init__(self, info: MapInfo, types: Types | None) -> None:
        self.kind = info.kind
        self._key_path = f"map '{info.name}' key"
        self._value_path = f"map '{info.name}' value"
        self._key = _codec(types, info.key_type, info.key_size)
        self._value = _codec(types, info.value_type, info.value_size)
        if isinstance(self._key, Raw) and info.key_size == 4 and self.kind in ARRAYS:
            self._key = Integer("__u32", 4, signed=False)
        self._slot = -(-info.value_size // _SLOT) * _SLOT

    def index(self, raw: bytes) -> int | None:
        """The bytes of a key as the kernel's index into an array, where the map is one."""
        return int.from_bytes(raw, sys.byteorder) if self.kind in ARRAYS else None

    def key(self, raw: bytes) -> Any:
        """The key that the bytes stand for, made so that it finds its element again."""
        key = self._key.decode(raw)
        if self._key.is_exact:
            return key
        # Bytes that no field shows, padding or the rest behind the end of a text, still belong to the key.
        if isinstance(self._key, Structure):
            return self._key.whole(key, raw)
        if self._key.encode(key, self._key_path) == raw:
            return key
        return raw.rstrip(b"\0") if isinstance(self._key, CharArray) else raw

    def keys(self, raw: bytes) -> list[Any]:
        """All keys in the bytes, which lie one behind the other."""
        size = self._key.size
        return [self.key(raw[at : at + size]) for at in range(0, len(raw), size)]

    def raw_key(self, key: Any) -> bytes:
        """The bytes of a key; TypeError, ValueError or OverflowError names the field."""
        return self._key.encode(self._prefix(key), self._key_path)

    def _prefix(self, key: Any) -> Any:
        """The key; for a trie, an address or network becomes its prefix length and address."""
        if self.kind is not Kind.LPM_TRIE or not isinstance(key, PREFIXES):
            return key
        network = getattr(key, "network", key)  # an interface's
        if isinstance(network, ADDRESS_CLASSES):
            return network.max_prefixlen, network.packed
        return network.prefixlen, network.network_address.packed

    def value(self, raw: bytes) -> Any:
        """The value that the bytes stand for; for a per-CPU map a tuple, one value for each possible CPU."""
        if self.kind not in PER_CPU:
            return self._value.decode(raw)
        size = self._value.size
        return tuple(self._value.decode(raw[at : at + size]) for at in range(0, len(raw), self._slot))

    def raw_value(self, value: Any, room: int) -> bytes:
        """The bytes of a value, `room` of them."""
        if self.kind not in PER_CPU:
            return self._value.encode(value, self._value_path)
        cpus = room // self._slot
        values = list(value) if isinstance(value, Iterable) and not isinstance(value, (str, bytes)) else [value]
        if len(values) != cpus:
            raise ValueError(
                f"{self._value_path} must have {cpus} values, one for each possible CPU, not {len(values)}"
            )
        encoded = (self._value.encode(each, f"{self._value_path}[{cpu}]") for cpu, each in enumerate(values))
        return b"".join(each.ljust(self._slot, b"\0") for each in encoded)

    def key_array(self, raw: bytes) -> NDArray[Any]:
        """Keys as a numpy array."""
        return arrays.to_array(self._key, raw)

    def value_array(self, raw: bytes, room: int) -> NDArray[Any]:
        """Values as a numpy array; for a per-CPU map with a second axis for the CPUs."""
        if self.kind not in PER_CPU:
            return arrays.to_array(self._value, raw)
        if self._slot != self._value.size:
            raw = b"".join(raw[at : at + self._value.size] for at in range(0, len(raw), self._slot))
        return arrays.to_array(self._value, raw).reshape(-1, room // self._slot)

    def raw_keys(self, keys: Any) -> bytes:
        """The bytes of many keys, in an array or a sequence."""
        if self.kind is Kind.LPM_TRIE and not hasattr(keys, "dtype"):
            keys = [self._prefix(key) for key in keys]
        return arrays.from_array(self._key, keys, self._key_path)

    def raw_values(self, values: Any, room: int) -> bytes:
        """The bytes of many values, in an array or a sequence."""
        if self.kind in PER_CPU:
            arrays.refuse_masked(values, self._value_path)
            return b"".join(self.raw_value(value, room) for value in values)
        return arrays.from_array(self._value, values, self._value_path)


def _codec(types: Types | None, number: int, size: int) -> Codec:
    codec = types.codec(number) if types and number else None
    return codec if codec and codec.size == size else Raw(size)


class Pairs(Protocol):
    """A map as its views see it: keys with their values, copied as a whole, so that no deletion comes in between."""

    def _pairs(self) -> Iterator[tuple[Any, Any]]: ...


class MapValues(ValuesView[Any]):
    """What `Map.values` returns."""

    _mapping: Pairs

    def __iter__(self) -> Iterator[Any]:
        return (value for _, value in self._mapping._pairs())

    def __contains__(self, value: object) -> bool:
        return any(value is each or value == each for each in self)


class MapItems(ItemsView[Any, Any]):
    """What `Map.items` returns."""

    _mapping: Pairs

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        return self._mapping._pairs()
