"""Maps of every type as Python sees them, filled from both sides."""

from __future__ import annotations

import errno
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from netkit_bpf import BPFObject, Map, Program
from programs import HEADER, build

SOURCE = (
    HEADER
    + """
struct address { __u8 bytes[4]; __u16 port; __u8 protocol; __u8 : 8; };
struct flow { __u64 packets, bytes; enum { IDLE, ACTIVE = 5 } state; __u32 low : 4, high : 12; };
struct prefix { __u32 length; __u8 address[4]; };

#define MAP(name_, type_, entries_, key_, value_) \\
	struct { __uint(type, BPF_MAP_TYPE_##type_); __uint(max_entries, entries_); \\
		__type(key, key_); __type(value, value_); } name_ SEC(".maps")
#define BAG(name_, type_, entries_, value_) \\
	struct { __uint(type, BPF_MAP_TYPE_##type_); __uint(max_entries, entries_); __type(value, value_); } \\
		name_ SEC(".maps")

MAP(flows, HASH, 8, struct address, struct flow);
MAP(large, HASH, 20000, __u64, __u32);
MAP(table, ARRAY, 4, __u32, struct flow);
MAP(seen, PERCPU_ARRAY, 2, __u32, __u32);
MAP(sizes, PERCPU_HASH, 8, __u32, struct flow);
MAP(recent, LRU_HASH, 64, __u32, __u32);
BAG(queue, QUEUE, 3, struct flow);
BAG(stack, STACK, 3, __u32);
BAG(filter, BLOOM_FILTER, 100, __u32);
struct { __uint(type, BPF_MAP_TYPE_LPM_TRIE); __uint(map_flags, BPF_F_NO_PREALLOC); __uint(max_entries, 600);
	__type(key, struct prefix); __type(value, __u32); } routes SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 4);
	__uint(key_size, 4); __uint(value_size, 6); } untyped SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } ring SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY); __uint(key_size, 4); __uint(value_size, 4); } perf SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PROG_ARRAY); __uint(max_entries, 2);
	__uint(key_size, 4); __uint(value_size, 4); } next SEC(".maps");

struct counter { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 2); __type(key, __u32); __type(value, __u64); };
struct counter one SEC(".maps"), other SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS); __uint(max_entries, 3); __type(key, __u32);
	__array(values, struct counter); } tables SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_HASH_OF_MAPS); __uint(max_entries, 3); __type(key, __u64);
	__array(values, struct counter); } named SEC(".maps");

SEC("netkit/peer") int count(struct __sk_buff *skb)
{
	__u32 zero = 0, *seen_, length = skb->len;
	struct flow *flow, fresh = { .packets = 1, .state = ACTIVE, .low = 3, .high = 1000 };
	struct counter *inner;
	__u64 *counter_;

	if ((seen_ = bpf_map_lookup_elem(&seen, &zero)))
		(*seen_)++;
	bpf_map_update_elem(&sizes, &length, &fresh, BPF_ANY);
	if ((flow = bpf_map_lookup_elem(&table, &zero)))
		flow->packets++;
	bpf_map_push_elem(&queue, &fresh, BPF_ANY);
	if ((inner = bpf_map_lookup_elem(&tables, &zero)) && (counter_ = bpf_map_lookup_elem(inner, &zero)))
		(*counter_)++;
	bpf_tail_call(skb, &next, 0);
	return -1;
}

SEC("netkit/peer") int dropper(struct __sk_buff *skb) { return 2; }
"""
)
ADDRESS = (b"\x0a\0\0\1", 80, 6)
FLOW = (1, 2, "ACTIVE", 3, 4)
PACKET = bytes(60)


@pytest.fixture
def loaded() -> Iterator[BPFObject]:
    with BPFObject.open(build(SOURCE)) as obj:
        yield obj


@pytest.fixture
def maps(loaded: BPFObject) -> dict[str, Map]:
    return dict(loaded.maps)


def run(loaded: BPFObject, times: int = 1) -> None:
    for _ in range(times):
        loaded.programs["count"].test_run(PACKET)


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
    with pytest.raises(OSError, match=r"update map 'flows': .*\(0 of 1 elements were written\)"):
        flows.update_batch([(bytes(4), 8, 0)], [FLOW])


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


def test_batches_carry_arrays_in_and_out(maps: dict[str, Map]) -> None:
    large = maps["large"]
    keys = np.arange(20000, dtype="u8") << 32
    large.update_batch(keys, np.arange(20000, dtype="u4"))
    assert len(large) == 20000
    found, values = large.lookup_batch()
    assert (found.dtype, values.dtype) == (np.dtype("u8"), np.dtype("u4"))
    order = np.argsort(found)
    assert np.array_equal(found[order], keys)
    assert np.array_equal(values[order], np.arange(20000))
    assert large.delete_batch(keys[:15000]) == 15000
    assert large.delete_batch(keys) == 5000
    flows = maps["flows"]
    flows[ADDRESS] = FLOW
    keys, values = flows.lookup_batch()
    assert values.dtype.names == ("packets", "bytes", "state", "low", "high")
    assert values["high"].tolist() == [4]
    values["high"] = 4000
    flows.update_batch(keys, values)
    assert flows[ADDRESS].high == 4000
    with pytest.raises(ValueError, match="there are 1 keys and 2 values"):
        flows.update_batch(keys, [FLOW, FLOW])
    with pytest.raises(OverflowError, match=r"map 'large' key\[1\] must be 0 to"):
        large.update_batch([1, -1], [1, 1])
    large.update_batch([], [])
    assert large.lookup_batch()[0].tolist() == []


def test_batches_of_lists_need_no_numpy() -> None:
    """Its import takes longer than all else."""
    program = (
        "import sys\n"
        "from netkit_bpf import Map\n"
        "made = Map.create('array', key_size=4, value_size=1, max_entries=2)\n"
        "made.update_batch([0, 1], [b'a', b'b'])\n"
        "assert dict(made) == {0: b'a', 1: b'b'}\n"
        "assert 'numpy' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_map_may_change_while_it_is_iterated_over(maps: dict[str, Map]) -> None:
    large = maps["large"]
    large.update_batch(range(1000), range(1000))
    for key in large:
        del large[key]
        large[key + 10000] = 1
    assert sorted(large) == list(range(10000, 11000))
    stop = threading.Event()

    def churn() -> None:
        number = 0
        while not stop.is_set():
            large[20000 + number % 500] = number
            large.pop(20000 + (number + 250) % 500, None)
            number += 1

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(20):
            keys = list(large)
            assert len(keys) == len(set(keys))
            assert set(range(10000, 11000)) <= set(keys)
            assert all(isinstance(value, int) for _, value in large.items())
    finally:
        stop.set()
        thread.join()


def test_sizes_are_set_before_load() -> None:
    obj = BPFObject.open(build(SOURCE))
    obj.maps["flows"].max_entries = 2
    obj.maps["ring"].max_entries = 16384
    for wrong in (5000, 2048):
        with pytest.raises(
            ValueError, match=f"max_entries of a ring buffer must be a power of two from 4096, not {wrong}"
        ):
            obj.maps["ring"].max_entries = wrong
    for wrong in (0, -1, 1 << 32):
        with pytest.raises(ValueError, match="max_entries must be 1 to 4294967295"):
            obj.maps["flows"].max_entries = wrong
    with obj:
        assert (obj.maps["flows"].max_entries, obj.maps["ring"].max_entries) == (2, 16384)
        with pytest.raises(ValueError, match="map 'flows' is loaded: max_entries is set before load"):
            obj.maps["flows"].max_entries = 3
    with pytest.raises(ValueError, match="map 'flows' is closed"):
        obj.maps["flows"].max_entries = 3


def test_a_map_is_made_without_an_object() -> None:
    with Map.create("hash", key_size=4, value_size=2, max_entries=3, name="by_hand") as made:
        assert (made.type, made.name, made.key_size, made.value_size, made.max_entries) == ("hash", "by_hand", 4, 2, 3)
        made[b"abcd"] = b"ef"
        assert dict(made) == {b"abcd": b"ef"}
    with Map.create("ringbuf", max_entries=8192) as ring:
        assert (ring.type, ring.max_entries) == ("ringbuf", 8192)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"type": "heap", "max_entries": 1}, "type 'heap' is no type of map: there are hash, array, "),
        ({"type": "hash", "max_entries": 0}, "max_entries must be 1 to 4294967295, not 0"),
        ({"type": "ringbuf", "max_entries": 5000}, "must be a power of two from 4096, not 5000"),
        ({"type": "hash", "max_entries": 1, "key_size": -1}, "key_size must be 0 to 4294967295, not -1"),
        ({"type": "hash", "max_entries": 1, "name": "a b"}, "name 'a b' must be letters, digits"),
        ({"type": "hash", "max_entries": 1, "name": 16 * "a"}, "at most 15"),
    ],
)
def test_an_absurd_map_is_not_made(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Map.create(**options)


def test_a_map_that_the_kernel_does_not_make_is_named() -> None:
    with pytest.raises(OSError, match=r"create map 'one': Invalid argument .*not possible for its type"):
        Map.create("hash", max_entries=1, name="one")


def test_values_without_a_type_get_their_size_before_load() -> None:
    obj = BPFObject.open(build(SOURCE))
    untyped = obj.maps["untyped"]
    untyped.value_size = 9
    with pytest.raises(ValueError, match="value_size must be 1 to 4294967295, not 0"):
        untyped.value_size = 0
    with pytest.raises(ValueError, match="the values of map 'flows' have a type, which is not changed"):
        obj.maps["flows"].value_size = 9
    with pytest.raises(ValueError, match="the values of map 'ring' have no size, which is not changed"):
        obj.maps["ring"].value_size = 9
    with obj:
        untyped[bytes(4)] = b"nine more"
        assert (untyped.value_size, untyped[bytes(4)]) == (9, b"nine more")
        with pytest.raises(ValueError, match="map 'untyped' is loaded: value_size is set before load"):
            untyped.value_size = 6


def test_a_map_too_large_is_named() -> None:
    obj = BPFObject.open(build(SOURCE))
    obj.maps["table"].max_entries = 0xFFFFFFFF
    with pytest.raises(OSError, match=r"create map 'table' of BPF object object: .*it is too large") as caught:
        obj.load()
    assert caught.value.errno in (errno.E2BIG, errno.ENOMEM)
    obj.close()


def test_one_object_uses_the_others_map(loaded: BPFObject) -> None:
    second = BPFObject.open(build(SOURCE))
    second.maps["table"].reuse(loaded.maps["table"])
    second.maps["large"].max_entries = 5
    second.maps["large"].reuse(loaded.maps["large"])
    with pytest.raises(ValueError, match="map 'flows' cannot be map 'table': type 1 here, 2 there"):
        second.maps["flows"].reuse(loaded.maps["table"])
    with pytest.raises(ValueError, match="map 'seen' cannot be map 'sizes': type"):
        second.maps["seen"].reuse(loaded.maps["sizes"])
    with pytest.raises(TypeError, match="other must be a Map, not str"):
        second.maps["seen"].reuse("seen")  # type: ignore[arg-type]
    with second:
        run(loaded)
        run(second)
        assert second.maps["table"].id == loaded.maps["table"].id
        assert loaded.maps["table"][0].packets == 2
        assert second.maps["large"].max_entries == 20000
        with pytest.raises(ValueError, match="map 'table' is loaded: another is reused before load"):
            second.maps["table"].reuse(loaded.maps["table"])


def test_a_pinned_map_outlives_its_object_with_its_types(bpffs: Path) -> None:
    path = bpffs / "flows"
    with BPFObject.open(build(SOURCE)) as obj:
        flows, queue = obj.maps["flows"], obj.maps["queue"]
        flows.pin(path)
        queue.pin(bpffs / "queue")
        assert flows.pinned_at == str(path)
        flows[ADDRESS] = FLOW
        queue.push(FLOW)
        with pytest.raises(FileExistsError, match=f"pin map 'seen' at {path}"):
            obj.maps["seen"].pin(path)
        with pytest.raises(ValueError, match=f"map 'flows' is pinned at {path} already"):
            flows.pin(bpffs / "again")
        with pytest.raises(OSError, match="mount -t bpf"):
            obj.maps["seen"].pin("/tmp/not_a_bpf_file_system")
        with pytest.raises(ValueError, match="map 'seen' is not pinned"):
            obj.maps["seen"].unpin()
        with pytest.raises(TypeError, match="path must be a path, not int"):
            obj.maps["seen"].pin(5)  # type: ignore[arg-type]
    with Map.open_pinned(path) as opened:
        assert (opened.name, opened.type) == ("flows", "hash")
        assert opened[ADDRESS].state.name == "ACTIVE"
        opened.unpin()
        assert not path.exists()
        assert opened[ADDRESS].high == 4  # still held
    with Map.open_pinned(bpffs / "queue") as opened:
        assert len(opened.pop()) == 24  # the kernel keeps no types of queues
        opened.unpin()
    for gone in (path, bpffs / "nix"):
        with pytest.raises(FileNotFoundError, match="nothing is pinned there"):
            Map.open_pinned(gone)


def test_maps_are_shared_by_their_name(bpffs: Path) -> None:
    source = build(
        HEADER
        + """
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, ENTRIES); __type(key, __u32); __type(value, __u32);
	__uint(pinning, LIBBPF_PIN_BY_NAME); } shared SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); __type(value, __u64);
	__uint(pinning, LIBBPF_PIN_BY_NAME); } records SEC(".maps");
""".replace("ENTRIES", "9")
    )
    with BPFObject.open(source, pin_root=bpffs) as first:
        shared = first.maps["shared"]
        assert shared.pinned_at == str(bpffs / "shared")
        shared[1] = 2
        with BPFObject.open(source, pin_root=bpffs) as second:
            assert second.maps["shared"].id == shared.id
            assert second.maps["shared"][1] == 2
            assert second.maps["records"].id == first.maps["records"].id
        other = BPFObject.open(source, pin_root=bpffs)
        other.maps["shared"].max_entries = 10
        with pytest.raises(OSError, match="map 'shared'"):
            other.load()
        other.close()
        shared.unpin()
        first.maps["records"].unpin()
    assert {path.suffix for path in bpffs.iterdir()} <= {".debug"}  # the kernel's own


def test_use_before_load_and_after_close_is_a_value_error() -> None:
    obj = BPFObject.open(build(SOURCE))
    flows = obj.maps["flows"]
    assert repr(flows) == "<Map flows (hash) not loaded>"
    for use in (lambda: flows[ADDRESS], lambda: flows.id, lambda: list(flows), lambda: flows.pin("/sys/fs/bpf/x")):
        with pytest.raises(ValueError, match=r"map 'flows' is not loaded: call load\(\) of its object first"):
            use()
    with obj:
        table = obj.maps["table"]
        table.close()
        table.close()
        with pytest.raises(ValueError, match="map 'table' is closed"):
            table[0]
        assert not flows.closed
    assert flows.closed
    assert repr(flows) == "<Map flows (hash) closed>"
    for use in (
        lambda: flows[ADDRESS],
        lambda: flows.__setitem__(ADDRESS, FLOW),
        lambda: flows.__delitem__(ADDRESS),
        lambda: ADDRESS in flows,
        lambda: list(flows),
        lambda: list(flows.items()),
        lambda: len(flows),
        lambda: bool(flows),
        lambda: flows.id,
        lambda: flows.pin("/sys/fs/bpf/x"),
        flows.unpin,
        flows.lookup_batch,
        flows.clear,
        flows.popitem,
        lambda: flows.setdefault(ADDRESS, FLOW),
        lambda: flows.update_batch([ADDRESS], [FLOW]),
        lambda: flows.delete_batch([ADDRESS]),
        lambda: obj.maps["queue"].push(FLOW),
        lambda: obj.maps["queue"].pop(),
        lambda: obj.maps["queue"].peek(),
    ):
        with pytest.raises(ValueError, match="is closed"):
            use()


def test_a_map_lives_on_without_its_objects_name() -> None:
    def make() -> Map:
        obj = BPFObject.open(build(SOURCE))
        obj.load()
        return obj.maps["flows"]

    with make() as flows:
        flows[ADDRESS] = FLOW
        assert flows[ADDRESS].high == 4
