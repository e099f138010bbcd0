# SPDX-License-Identifier: MIT
"""The types and flags of maps: enum bpf_map_type and BPF_F_…, include/uapi/linux/bpf.h."""

from __future__ import annotations

import enum
import operator
from collections.abc import Iterable


class Kind(enum.IntEnum):
    """A type of map; the names in lower case are those of bpftool(8)."""

    UNKNOWN = 0
    HASH = 1
    ARRAY = 2
    PROG_ARRAY = 3
    PERF_EVENT_ARRAY = 4
    PERCPU_HASH = 5
    PERCPU_ARRAY = 6
    STACK_TRACE = 7
    CGROUP_ARRAY = 8
    LRU_HASH = 9
    LRU_PERCPU_HASH = 10
    LPM_TRIE = 11
    ARRAY_OF_MAPS = 12
    HASH_OF_MAPS = 13
    DEVMAP = 14
    SOCKMAP = 15
    CPUMAP = 16
    XSKMAP = 17
    SOCKHASH = 18
    CGROUP_STORAGE = 19
    REUSEPORT_SOCKARRAY = 20
    PERCPU_CGROUP_STORAGE = 21
    QUEUE = 22
    STACK = 23
    SK_STORAGE = 24
    DEVMAP_HASH = 25
    STRUCT_OPS = 26
    RINGBUF = 27
    INODE_STORAGE = 28
    TASK_STORAGE = 29
    BLOOM_FILTER = 30
    USER_RINGBUF = 31
    CGRP_STORAGE = 32
    ARENA = 33


class MapFlags(enum.IntFlag):
    """How a map is made: the kernel's names without BPF_F_."""

    NO_PREALLOC = 1 << 0
    NO_COMMON_LRU = 1 << 1
    NUMA_NODE = 1 << 2
    RDONLY = 1 << 3
    WRONLY = 1 << 4
    STACK_BUILD_ID = 1 << 5
    ZERO_SEED = 1 << 6
    RDONLY_PROG = 1 << 7
    WRONLY_PROG = 1 << 8
    CLONE = 1 << 9
    MMAPABLE = 1 << 10
    PRESERVE_ELEMS = 1 << 11
    INNER_MAP = 1 << 12
    LINK = 1 << 13
    PATH_FD = 1 << 14
    VTYPE_BTF_OBJ_FD = 1 << 15
    TOKEN_FD = 1 << 16
    SEGV_ON_FAULT = 1 << 17
    NO_USER_CONV = 1 << 18
    RB_OVERWRITE = 1 << 19


Flags = int | str | Iterable[int | str]


def parse_flags(flags: Flags) -> MapFlags:
    """Flags from a number, a name in any case, with or without BPF_F_, or several of these."""
    if isinstance(flags, str):
        word = flags.upper().removeprefix("BPF_F_")
        if word not in MapFlags.__members__:
            raise ValueError(f"flags has {flags!r}: there are {', '.join(MapFlags.__members__).lower()}")
        return MapFlags[word]
    if isinstance(flags, Iterable) and not isinstance(flags, int):  # a flag is itself a set of flags
        parsed = MapFlags(0)
        for each in flags:
            parsed |= parse_flags(each)
        return parsed
    try:
        number = operator.index(flags)
    except TypeError:
        raise TypeError(f"flags must be MapFlags, their names or a number, not {type(flags).__name__}") from None
    if not 0 <= number < 1 << 32:
        raise ValueError(f"flags must be 0 to {(1 << 32) - 1}, not {number}")
    return MapFlags(number)


# Their keys are the indices 0 to max_entries - 1.
ARRAYS = frozenset(
    {
        Kind.ARRAY,
        Kind.PROG_ARRAY,
        Kind.PERCPU_ARRAY,
        Kind.ARRAY_OF_MAPS,
        Kind.DEVMAP,
        Kind.SOCKMAP,
        Kind.CPUMAP,
        Kind.XSKMAP,
        Kind.REUSEPORT_SOCKARRAY,
    }
)

PER_CPU = frozenset({Kind.PERCPU_HASH, Kind.PERCPU_ARRAY, Kind.LRU_PERCPU_HASH, Kind.PERCPU_CGROUP_STORAGE})

# Maps without keys, and what to do instead.
NO_ITEMS = {
    Kind.RINGBUF: "has no items: read it with RingBuffer(map)",
    Kind.USER_RINGBUF: "has no items: it carries records to the program",
    Kind.PERF_EVENT_ARRAY: "this package does not read: use a ring buffer, BPF_MAP_TYPE_RINGBUF",
    Kind.QUEUE: "has no keys: it has push(), pop() and peek()",
    Kind.STACK: "has no keys: it has push(), pop() and peek()",
    Kind.BLOOM_FILTER: "has no keys: it has push(), and in asks whether it may hold a value",
    Kind.STRUCT_OPS: "has no items",
    Kind.ARENA: "has no items: it is memory",
}
