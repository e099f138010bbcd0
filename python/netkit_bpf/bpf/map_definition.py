# SPDX-License-Identifier: MIT
"""The definition of a map that is to be made."""

from __future__ import annotations

import re
from typing import Protocol

from netkit_bpf.bpf.map_base import check_max_entries
from netkit_bpf.bpf.map_elements import MapInfo
from netkit_bpf.bpf.map_types import Flags, Kind, parse_flags
from netkit_bpf.btf.types import Types
from netkit_bpf.internal.arguments import expect, expect_in

_KINDS = {kind.name.lower(): kind for kind in Kind if kind is not Kind.UNKNOWN}
_SIZES = range(1 << 32)


class Typed(Protocol):
    """What has types: an object, or a map of one."""

    _types: Types | None


def define(
    kind: str,
    max_entries: int,
    key: tuple[str, int],
    value: tuple[str, int],
    types: Typed | None,
    flags: Flags,
    name: str,
) -> MapInfo:
    """The definition from the arguments of `Map.create`; keys and values are given by a type name or a size."""
    if expect(kind, str, "type") not in _KINDS:
        raise ValueError(f"type {kind!r} is not a map type: choose one of {', '.join(_KINDS)}")
    check_max_entries(_KINDS[kind], max_entries)
    if types is not None and not hasattr(types, "_types"):
        raise TypeError(f"types must be a BPFObject or a Map, not {type(types).__name__}")
    key_type, key_size = _type_and_size("key", *key, types)
    value_type, value_size = _type_and_size("value", *value, types)
    if not re.fullmatch(r"[\w.]{0,15}", expect(name, str, "name"), re.ASCII):
        raise ValueError(f"name {name!r} must be letters, digits, dots and underscores, at most 15")
    number = int(parse_flags(flags))
    return MapInfo(0, _KINDS[kind], key_size, value_size, max_entries, number, name, 0, key_type, value_type)


def _type_and_size(what: str, name: str, size: int, types: Typed | None) -> tuple[int, int]:
    """The number of the type of keys or values, 0 for bytes, and its size."""
    expect_in(size, _SIZES, f"{what}_size")
    if not expect(name, str, what):
        return 0, size
    known = None if types is None else types._types
    if known is None:
        raise ValueError(f"{what} names a type: types must be an object that was compiled with -g, or a map of one")
    number = known.number(name)
    found = known.codec(number).size
    if size not in (0, found):
        raise ValueError(f"{what}_size must be left out, or {found} as {name} has, not {size}")
    return number, found
