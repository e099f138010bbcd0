# SPDX-License-Identifier: MIT
"""The types of maps: enum bpf_map_type, include/uapi/linux/bpf.h."""

from __future__ import annotations

import enum


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

# What has no keys, and what is to be done instead.
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
