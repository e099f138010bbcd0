# SPDX-License-Identifier: MIT
"""How maps come to be, are shared and pinned, and end."""

from __future__ import annotations

import copy
import errno
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from map_programs import ADDRESS, FLOW, SOURCE, run
from netkit_bpf import BPFObject, Map
from programs import HEADER, build


@pytest.fixture
def loaded() -> Iterator[BPFObject]:
    with BPFObject.open(build(SOURCE)) as obj:
        yield obj


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
        with pytest.raises(ValueError, match="map 'flows' is loaded: set max_entries before load"):
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
        ({"type": "heap", "max_entries": 1}, "type 'heap' is not a map type: choose one of hash, array, "),
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


def test_values_without_a_type_get_their_size_before_load() -> None:
    obj = BPFObject.open(build(SOURCE))
    untyped = obj.maps["untyped"]
    untyped.value_size = 9
    with pytest.raises(ValueError, match="value_size must be 1 to 4294967295, not 0"):
        untyped.value_size = 0
    with pytest.raises(ValueError, match="the values of map 'flows' have a type, which cannot be changed"):
        obj.maps["flows"].value_size = 9
    with pytest.raises(ValueError, match="the values of map 'ring' have no size, which cannot be changed"):
        obj.maps["ring"].value_size = 9
    with obj:
        untyped[bytes(4)] = b"nine more"
        assert (untyped.value_size, untyped[bytes(4)]) == (9, b"nine more")
        with pytest.raises(ValueError, match="map 'untyped' is loaded: set value_size before load"):
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
        with pytest.raises(ValueError, match="map 'table' is loaded: reuse another map before load"):
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
        with pytest.raises(
            OSError, match=r"pin map 'shared' at .*another map is pinned there, its max_entries is 9, not"
        ):
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

    with pytest.warns(ResourceWarning, match="BPFObject object, made at .*, was never closed"):
        flows = make()
    with flows:
        flows[ADDRESS] = FLOW
        assert flows[ADDRESS].high == 4


@pytest.mark.parametrize("kind", ["devmap", "prog_array", "cpumap"])
def test_an_array_without_elements_is_empty(kind: str) -> None:
    """Each index is a key to the kernel, which goes on from the last to the first."""
    with Map.create(kind, key_size=4, value_size=4, max_entries=4) as made:
        assert (bool(made), len(made)) == (False, 0)
        with pytest.raises(KeyError, match="is empty"):
            made.popitem()


def test_what_is_closed_once_is_not_copied() -> None:
    with Map.create("array", key_size=4, value_size=4, max_entries=1) as made:
        for attempt in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="a Map cannot be copied or pickled"):
                attempt(made)
        assert made[0] == bytes(4)
