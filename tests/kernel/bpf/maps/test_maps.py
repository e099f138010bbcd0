"""Maps of every type as Python sees them, filled from both sides."""

from __future__ import annotations

import errno
import struct
from typing import Any

import numpy as np
import pytest

from map_programs import ADDRESS, FLOW, PACKET, run
from netkit_bpf import BPFObject, Map, Program
from syscall import freeze


def test_a_hash_is_a_dict(maps: dict[str, Map]) -> None:
    flows = maps["flows"]
    assert (flows.type, flows.key_size, flows.value_size, flows.max_entries) == ("hash", 8, 24, 8)
    assert not flows
    assert len(flows) == 0
    flows[ADDRESS] = FLOW
    assert flows
    assert ADDRESS in flows
    value = flows[ADDRESS]
    assert (value.packets, value.bytes, value.low, value.high) == (1, 2, 3, 4)
    assert value.state.name == "ACTIVE"
    [key] = flows
    assert (key.bytes, key.port, key.protocol) == ADDRESS
    assert dict(flows) == {key: value} == dict(flows.items())
    assert list(flows.keys()) == [key]
    assert list(flows.values()) == [value]
    flows[key] = value._replace(packets=9)
    assert flows[ADDRESS].packets == 9
    missing = (bytes(4), 0, 0)
    assert missing not in flows
    assert flows.get(missing) is None
    assert flows.setdefault(ADDRESS, FLOW).packets == 9
    assert flows.setdefault(missing, FLOW) == FLOW
    assert flows.pop(missing) == value
    assert flows.pop(missing, "gone") == "gone"
    for refused in (lambda: flows[missing], lambda: flows.pop(missing), lambda: flows.__delitem__(missing)):
        with pytest.raises(KeyError):
            refused()
    del flows[ADDRESS]
    flows.update({(bytes(4), port, 0): {"packets": port} for port in range(4)})
    assert sorted(value.packets for value in flows.values()) == [0, 1, 2, 3]
    key, _ = flows.popitem()
    assert key not in flows
    assert len(flows) == 3
    flows.clear()
    assert flows == {}
    with pytest.raises(KeyError, match="map 'flows' is empty"):
        flows.popitem()


@pytest.mark.parametrize(
    ("key", "value", "error", "text"),
    [
        ((b"\x0a\0\0\1", 70000, 6), FLOW, OverflowError, r"map 'flows' key\.port must be 0 to 65535, not 70000"),
        (("10.0.0.1", 80, 6), FLOW, TypeError, r"map 'flows' key\.bytes must be a sequence, not str"),
        (1, FLOW, TypeError, "map 'flows' key must be a tuple or dict of bytes, port, protocol, not int"),
        (ADDRESS, (1, 2, 5, 16, 0), OverflowError, r"map 'flows' value\.low must be 0 to 15, not 16"),
        (ADDRESS, (1, 2, "BUSY", 0, 0), ValueError, "must be one of IDLE, ACTIVE, not 'BUSY'"),
        (ADDRESS, None, TypeError, "map 'flows' value must be a tuple or dict"),
    ],
)
def test_what_is_not_of_the_type_is_refused_before_the_kernel(
    maps: dict[str, Map], key: Any, value: Any, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        maps["flows"][key] = value
    assert not maps["flows"]


def test_a_full_hash_says_so(maps: dict[str, Map]) -> None:
    flows = maps["flows"]
    for port in range(8):
        flows[bytes(4), port, 0] = FLOW
    with pytest.raises(OSError, match=r"update map 'flows': .*the map is full") as caught:
        flows[bytes(4), 8, 0] = FLOW
    assert caught.value.errno == errno.E2BIG
    with pytest.raises(OSError, match=r"update map 'flows': .*full.*; 0 of 1 elements were written\)"):
        flows.update_batch([(bytes(4), 8, 0)], [FLOW])
    for there in range(8):
        flows.clear()
        flows.update({(bytes(4), port, 1): FLOW for port in range(there)})
        with pytest.raises(OSError, match=rf"; {8 - there} of 20 elements were written\)"):
            flows.update_batch([(bytes(4), port, 0) for port in range(20)], [FLOW] * 20)
        assert len(flows) == 8
        assert sorted(key.port for key in flows if not key.protocol) == list(range(8 - there))


@pytest.mark.parametrize("kind", ["array", "hash"])
def test_a_map_that_takes_nothing_any_more_says_that_nothing_was_written(kind: str) -> None:
    """The kernel refuses before it begins, and does not count."""
    with Map.create(kind, key_size=4, value_size=4, max_entries=8, name="still") as still:
        keys: list[Any] = [1, 2] if kind == "array" else [bytes(4), b"\1" * 4]
        freeze(still._open().fileno())
        message = r"update map 'still': Operation not permitted \(the map is read-only; 0 of 2 elements were written\)"
        with pytest.raises(PermissionError, match=message):
            still.update_batch(keys, [bytes(4)] * 2)


def test_an_array_has_all_its_elements(loaded: BPFObject, maps: dict[str, Map]) -> None:
    table = maps["table"]
    assert len(table) == 4
    assert list(table) == [0, 1, 2, 3]
    assert [value.packets for value in table.values()] == [0] * 4
    run(loaded, 3)
    assert table[0].packets == 3
    table[3] = {"bytes": 7}
    assert (table[3].packets, table[3].bytes) == (0, 7)
    assert 4 not in table
    with pytest.raises(KeyError):
        table[4]
    with pytest.raises(KeyError, match="map 'table' has the keys 0 to 3"):
        table[4] = FLOW
    with pytest.raises(OverflowError, match="map 'table' key must be 0 to 4294967295, not -1"):
        table[-1]
    for refused in (lambda: table.__delitem__(0), lambda: table.pop(0), table.clear, table.popitem):
        with pytest.raises(TypeError, match="map 'table' is of type array, which keeps all its elements"):
            refused()


def test_per_cpu_maps_have_one_value_for_each_cpu(loaded: BPFObject, maps: dict[str, Map]) -> None:
    run(loaded, 5)
    seen, sizes = maps["seen"], maps["sizes"]
    assert sum(seen[0]) == 5
    cpus = len(seen[0])
    assert seen[1] == (0,) * cpus
    seen[1] = range(cpus)
    assert dict(seen) == {0: seen[0], 1: tuple(range(cpus))}
    [(length, flows)] = sizes.items()
    assert length == len(PACKET)
    assert len(flows) == cpus
    assert {flow.state for flow in flows} >= {5}
    assert {flow.high for flow in flows} >= {1000}
    with pytest.raises(ValueError, match=f"map 'seen' value must have {cpus} values, one for each possible CPU, not 1"):
        seen[0] = 7
    with pytest.raises(OverflowError, match=r"map 'seen' value\[0\] must be 0 to 4294967295, not -1"):
        seen[0] = [-1] * cpus
    keys, values = seen.lookup_batch()
    assert keys.tolist() == [0, 1]
    assert (values.shape, values.dtype) == ((2, cpus), np.dtype("u4"))
    assert values[1].tolist() == list(range(cpus))
    seen.update_batch(keys, values[::-1])
    assert sum(seen[1]) == 5
    keys, values = sizes.lookup_batch()
    assert values.shape == (1, cpus)
    assert set(values["high"][0]) >= {1000}


@pytest.mark.parametrize(("entries", "words"), [(1, 2), (1500, 2), (300, 1024)])  # one batch, two for each reason
def test_what_the_cpus_count_is_added_up(entries: int, words: int) -> None:
    with Map.create("percpu_array", key_size=4, value_size=8 * words, max_entries=entries) as counts:
        cpus = len(counts[0])
        for key in {0, entries - 1}:
            counts[key] = [struct.pack("=Q", key) * (words - 1) + struct.pack("=Q", 2**40 + cpu) for cpu in range(cpus)]
        sums = counts.sum_cpus()
        assert len(sums) == words * entries
        assert sums[-words:] == [cpus * (entries - 1)] * (words - 1) + [cpus * 2**40 + sum(range(cpus))]
        assert not any(sums[words:-words])


def test_only_numbers_of_the_cpus_are_added_up(maps: dict[str, Map]) -> None:
    for name in ("table", "sizes", "seen"):  # an array, a hash, numbers of 32 bits
        with pytest.raises(TypeError, match=r"has no sum_cpus\(\): it is not a per-CPU array of 64-bit numbers"):
            maps[name].sum_cpus()


def test_an_lru_forgets(maps: dict[str, Map]) -> None:
    recent = maps["recent"]
    for number in range(200):
        recent[number] = number
    assert 0 < len(recent) <= 64
    assert all(recent[key] == key for key in recent)


def test_a_trie_finds_the_longest_prefix(maps: dict[str, Map]) -> None:
    routes = maps["routes"]
    routes[8, b"\x0a\0\0\0"] = 1
    routes[24, b"\x0a\1\2\0"] = 2
    routes[0, bytes(4)] = 3
    found = {key.length: routes[key] for key in routes}
    assert found == {8: 1, 24: 2, 0: 3}
    assert [routes[32, address] for address in (b"\x0a\1\2\3", b"\x0a\1\3\3", b"\x0b\0\0\0")] == [2, 1, 3]
    assert len(routes) == 3
    del routes[0, bytes(4)]
    assert (32, b"\x0b\0\0\0") not in routes
    # More than are read at once, where the kernel has no batches or small ones.
    routes.update_batch([(32, bytes([1, 0, i // 256, i % 256])) for i in range(500)], range(500))
    keys, values = routes.lookup_batch()
    assert len(keys) == 502
    assert sorted(values.tolist()) == sorted([1, 2, *range(500)])
    assert routes.delete_batch(keys) == 502
    assert not routes


def test_queue_and_stack_give_back_in_their_order(loaded: BPFObject, maps: dict[str, Map]) -> None:
    queue, stack = maps["queue"], maps["stack"]
    run(loaded)
    assert (queue.peek().state.name, queue.peek().high) == ("ACTIVE", 1000)
    assert queue.pop().packets == 1
    for number in range(3):
        queue.push({"packets": number})
        stack.push(number)
    with pytest.raises(OSError, match="update map 'stack'") as caught:
        stack.push(3)
    assert caught.value.errno == errno.E2BIG
    queue.push({"packets": 3}, replace=True)
    assert [queue.pop().packets for _ in range(3)] == [1, 2, 3]
    assert [stack.pop() for _ in range(3)] == [2, 1, 0]
    for empty in (queue.pop, stack.pop, queue.peek):
        with pytest.raises(IndexError, match="is empty"):
            empty()
    with pytest.raises(TypeError, match="takes no key"):
        queue.pop(1)
    with pytest.raises(OverflowError, match="map 'stack' value must be 0 to 4294967295"):
        stack.push(-1)


def test_a_bloom_filter_knows_what_it_holds(maps: dict[str, Map]) -> None:
    held = maps["filter"]
    for number in range(50):
        held.push(number)
    assert all(number in held for number in range(50))
    assert sum(number in held for number in range(1000, 2000)) < 500  # it may err on this side
    with pytest.raises(TypeError, match="must be an integer, not str"):
        assert "a" in held


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ring", r"is of type ringbuf, which has no items: read it with RingBuffer\(map\)"),
        ("perf", "is of type perf_event_array, which this package does not read: use a ring buffer"),
        ("queue", r"is of type queue, which has no keys: it has push\(\), pop\(\) and peek\(\)"),
        ("filter", r"is of type bloom_filter, which has no keys: it has push\(\)"),
    ],
)
def test_maps_without_keys_say_what_they_have(maps: dict[str, Map], name: str, text: str) -> None:
    keyless = maps[name]
    assert keyless
    for use in (
        lambda: keyless[0],
        lambda: keyless.__setitem__(0, 0),
        lambda: keyless.__delitem__(0),
        lambda: list(keyless),
        lambda: len(keyless),
        lambda: dict(keyless),
        keyless.lookup_batch,
        lambda: keyless.update_batch([], []),
        keyless.clear,
    ):
        with pytest.raises(TypeError, match=f"map '{name}' {text}"):
            use()


def test_maps_with_keys_have_no_push(maps: dict[str, Map]) -> None:
    with pytest.raises(TypeError, match=r"map 'flows' is of type hash, which has keys, and no push\(\)"):
        maps["flows"].push(FLOW)
    with pytest.raises(TypeError, match=r"map 'flows' is of type hash, which has no peek\(\)"):
        maps["flows"].peek()
    with pytest.raises(TypeError, match="takes a key and perhaps a default"):
        maps["flows"].pop()


def test_a_program_array_holds_programs(loaded: BPFObject, maps: dict[str, Map]) -> None:
    following = maps["next"]
    count, dropper = loaded.programs["count"], loaded.programs["dropper"]
    assert list(following) == []
    assert count.test_run(PACKET).retval == -1
    following[0] = dropper
    assert count.test_run(PACKET).retval == 2
    assert list(following) == [0]
    held = following[0]
    assert isinstance(held, Program)
    assert (held.id, held.name) == (dropper.id, "dropper")
    assert 1 not in following
    del following[0]
    assert count.test_run(PACKET).retval == -1
    with pytest.raises(TypeError, match="map 'next' value must be a Program, not int"):
        following[0] = 5
    with pytest.raises(KeyError, match="has the keys 0 to 1"):
        following[2] = dropper


def test_maps_of_maps_hold_maps(loaded: BPFObject, maps: dict[str, Map]) -> None:
    tables, named = maps["tables"], maps["named"]
    assert list(tables) == []
    tables[0] = maps["one"]
    tables[2] = maps["other"]
    run(loaded, 4)
    assert maps["one"][0] == 4
    assert {key: inner[0] for key, inner in tables.items()} == {0: 4, 2: 0}
    with tables[0] as inner:
        assert inner.id == maps["one"].id
        assert (inner.type, inner.name) == ("array", "one")
        inner[1] = 77
    assert maps["one"][1] == 77
    with pytest.raises(KeyError):
        tables[1]
    named[2**40] = maps["other"]
    assert list(named) == [2**40]
    with named[2**40] as inner:
        assert inner.id == maps["other"].id
    with pytest.raises(TypeError, match="map 'tables' value must be a Map, not int"):
        tables[1] = 3
    with pytest.raises(OSError, match="update map 'tables'"):
        tables[1] = maps["table"]  # of another shape than the inner maps


def test_maps_without_types_are_bytes(maps: dict[str, Map]) -> None:
    untyped = maps["untyped"]
    untyped[b"\0\1\2\3"] = b"abcdef"
    assert dict(untyped) == {b"\0\1\2\3": b"abcdef"}
    with pytest.raises(ValueError, match="map 'untyped' value must be 6 bytes, not 5"):
        untyped[b"\0\1\2\3"] = b"abcde"
    with pytest.raises(TypeError, match="map 'untyped' key must be bytes, not int"):
        untyped[1] = b"abcdef"
    keys, values = untyped.lookup_batch()
    assert (keys.dtype, values.dtype) == (np.dtype("V4"), np.dtype("V6"))
