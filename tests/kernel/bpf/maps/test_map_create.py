"""Maps that are made from Python: their flags, their types, what they hold."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_interface, ip_network
from typing import Any

import numpy as np
import pytest

from netkit_bpf import BPFObject, Map, MapFlags
from programs import HEADER, build

SOURCE = (
    HEADER
    + """
struct flow { struct in6_addr src; __be16 port; };
struct route { __u32 length; __be32 to; };
struct route6 { __u32 length; struct in6_addr to; };
struct inner { __uint(type, BPF_MAP_TYPE_HASH); __uint(map_flags, BPF_F_NO_PREALLOC); __uint(max_entries, 8);
	__type(key, struct flow); __type(value, __u64); };
struct { __uint(type, BPF_MAP_TYPE_HASH_OF_MAPS); __uint(max_entries, 4); __type(key, __u32);
	__array(values, struct inner); } outer SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 8); __type(key, __be32); __type(value, struct in6_addr); }
	addresses SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_LPM_TRIE); __uint(map_flags, BPF_F_NO_PREALLOC); __uint(max_entries, 8);
	__type(key, struct route6); __type(value, __u32); } routes SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERCPU_HASH); __uint(max_entries, 8); __type(key, struct flow);
	__type(value, __be32); } seen SEC(".maps");
struct flow unused; struct route route;
struct chars { char text[8]; };
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 8); __type(key, struct chars); __type(value, __u32); }
	texts SEC(".maps");
struct gap { __u8 a; __u32 b; };
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 8); __type(key, struct gap); __type(value, __u32); }
	gaps SEC(".maps");
enum kind { RX, TX, LOST };
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 3); __type(key, enum kind); __type(value, __u64); }
	kinds SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 2); __type(key, int); __type(value, __u64); }
	numbered SEC(".maps");
SEC("netkit/peer") int dirty(struct __sk_buff *skb)
{
	struct chars chars;
	struct gap gap;
	__u32 value = 7;

	__builtin_memcpy(&chars, "one\\0two", 8);
	bpf_map_update_elem(&texts, &chars, &value, BPF_ANY);
	__builtin_memset(&gap, 0xff, sizeof(gap));
	gap.a = 1;
	gap.b = 2;
	bpf_map_update_elem(&gaps, &gap, &value, BPF_ANY);
	return 0;
}
"""
)


@pytest.fixture
def loaded() -> Iterator[BPFObject]:
    with BPFObject.open(build(SOURCE)) as obj:
        yield obj


@pytest.mark.parametrize(
    "flags", [MapFlags.NO_PREALLOC, 1, "no_prealloc", "BPF_F_NO_PREALLOC", ["no_prealloc"], {MapFlags.NO_PREALLOC}]
)
def test_a_trie_is_made_with_its_flag(flags: Any) -> None:
    with Map.create("lpm_trie", key_size=8, value_size=4, max_entries=8, flags=flags) as trie:
        assert trie.flags is MapFlags.NO_PREALLOC
        trie[b"\x08\0\0\0\x0a\0\0\0"] = b"abcd"
        assert trie[b"\x20\0\0\0\x0a\1\2\3"] == b"abcd"


@pytest.mark.parametrize(
    ("flags", "error", "text"),
    [
        ("prealloc", ValueError, "flags has 'prealloc': there are no_prealloc, no_common_lru, "),
        (["mmapable", "nix"], ValueError, "flags has 'nix'"),
        (-1, ValueError, "flags must be 0 to 4294967295, not -1"),
        (1.5, TypeError, "flags must be MapFlags, their names or a number, not float"),
    ],
)
def test_flags_that_there_are_not_are_refused(flags: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        Map.create("hash", key_size=4, value_size=4, max_entries=1, flags=flags)


def test_flags_of_an_objects_maps_are_read(loaded: BPFObject) -> None:
    assert loaded.maps["routes"].flags is MapFlags.NO_PREALLOC
    assert not loaded.maps["addresses"].flags
    with Map.create("array", key_size=4, value_size=4, max_entries=1, flags=["mmapable", "rdonly_prog"]) as made:
        assert made.flags == MapFlags.MMAPABLE | MapFlags.RDONLY_PROG


def test_a_map_of_maps_is_filled_with_maps_like_its_own(loaded: BPFObject) -> None:
    options: dict[str, Any] = {"max_entries": 8, "key": "struct flow", "value": "__u64", "types": loaded}
    with Map.create("hash", flags="no_prealloc", **options) as inner, Map.create("hash", **options) as other:
        inner[IPv6Address("fd00::1"), 443] = 5
        [key] = inner
        assert (key.src, key.port, inner[key]) == (IPv6Address("fd00::1"), 443, 5)
        loaded.maps["outer"][1] = inner
        with loaded.maps["outer"][1] as held:
            assert held.id == inner.id
        with pytest.raises(OSError, match="update map 'outer'"):
            loaded.maps["outer"][2] = other


def test_a_map_of_maps_is_made_for_maps_like_one() -> None:
    with (
        Map.create("array", key_size=4, value_size=8, max_entries=2) as inner,
        Map.create("array_of_maps", key_size=4, value_size=4, max_entries=2, inner=inner) as outer,
    ):
        outer[1] = inner
        with outer[1] as held:
            assert held.id == inner.id
    with pytest.raises(TypeError, match="inner must be a Map, not int"):
        Map.create("array_of_maps", key_size=4, value_size=4, max_entries=2, inner=3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"key": "__u32"}, ValueError, "key names a type: types must be an object"),
        ({"key": "struct nix"}, LookupError, "the object has no type 'struct nix'"),
        (
            {"key": "struct flow", "key_size": 4},
            ValueError,
            "key_size must be left out, or 20 as struct flow has, not 4",
        ),
        ({"value": 4}, TypeError, "value must be a str, not int"),
    ],
)
def test_types_that_there_are_not_are_refused(
    loaded: BPFObject, options: dict[str, Any], error: type[Exception], text: str
) -> None:
    types = None if "names a type" in text else loaded.maps["outer"]
    with pytest.raises(error, match=text):
        Map.create("hash", max_entries=1, types=types, **options)


def test_keys_and_values_are_addresses_where_the_type_is_one(loaded: BPFObject) -> None:
    addresses, seen = loaded.maps["addresses"], loaded.maps["seen"]
    addresses[IPv4Address("10.0.0.1")] = IPv6Address("fd00::1")
    addresses["10.0.0.2"] = "fd00::2"
    assert addresses.copy() == {IPv4Address(f"10.0.0.{n}"): IPv6Address(f"fd00::{n}") for n in (1, 2)}
    assert IPv4Address("10.0.0.1") in addresses
    with pytest.raises(TypeError, match="map 'addresses' key must be an IPv4Address, not IPv6Address"):
        addresses[IPv6Address("fd00::1")]
    keys, values = addresses.lookup_batch()
    assert sorted(keys.tolist()) == [int(IPv4Address("10.0.0.1")), int(IPv4Address("10.0.0.2"))]
    assert addresses.delete_batch(keys) == 2
    addresses.update_batch(keys, values)
    assert addresses["10.0.0.1"] == IPv6Address("fd00::1")
    addresses.update_batch([IPv4Address("10.0.0.3")], ["fd00::3"])
    assert addresses["10.0.0.3"] == IPv6Address("fd00::3")
    cpus = len(np.atleast_1d(seen.lookup_batch()[1][:0].T))
    seen["fd00::1", 80] = ["10.0.0.1"] * cpus
    assert seen[IPv6Address("fd00::1"), 80] == (IPv4Address("10.0.0.1"),) * cpus


def test_a_trie_takes_networks_and_addresses(loaded: BPFObject) -> None:
    routes = loaded.maps["routes"]
    routes[ip_network("fd00::/16")] = 1
    routes[ip_interface("fd00:1::5/32")] = 2
    routes[IPv6Address("fd00:1::1")] = 3
    assert [routes[IPv6Address(text)] for text in ("fd00::9", "fd00:1::9", "fd00:1::1")] == [1, 2, 3]
    assert sorted((key.length, str(key.to)) for key in routes) == [(16, "fd00::"), (32, "fd00:1::"), (128, "fd00:1::1")]
    del routes[ip_network("fd00:1::/32")]
    routes.update_batch([ip_network("fd01::/16")], [4])
    assert routes[IPv6Address("fd01::1")] == 4
    with pytest.raises(ValueError, match=r"must be 16 bytes, not 4"):
        routes[ip_network("10.0.0.0/8")]


def test_a_key_that_was_read_finds_its_element(loaded: BPFObject) -> None:
    """Whatever is in its padding, or behind the end of a text in it: the kernel compares all bytes."""
    loaded.programs["dirty"].test_run(bytes(60))
    for name in ("texts", "gaps"):
        held = loaded.maps[name]
        [key] = held
        assert held[key] == 7
        assert held.copy() == {key: 7}
        assert dict(held.items()) == dict(held)
    [key] = loaded.maps["texts"]
    assert key == (b"one",)
    [gap] = loaded.maps["gaps"]
    assert gap == (1, 2)
    keys, values = loaded.maps["gaps"].lookup_batch()
    loaded.maps["gaps"].update_batch(keys, values)
    assert list(loaded.maps["gaps"]) == [gap]
    assert loaded.maps["gaps"].delete_batch(keys) == 1
    loaded.maps["gaps"][gap] = 8
    del loaded.maps["gaps"][gap]
    assert not loaded.maps["gaps"]


def test_keys_that_differ_only_in_their_padding_are_two(loaded: BPFObject) -> None:
    loaded.programs["dirty"].test_run(bytes(60))
    gaps = loaded.maps["gaps"]
    gaps[1, 2] = 8
    assert sorted(gaps.values()) == [7, 8]
    assert sorted(gaps.copy().values()) == sorted(dict(gaps).values()) == [7, 8]
    assert len(set(gaps)) == len(gaps) == 2
    assert gaps == gaps.copy()


def test_an_array_takes_names_and_refuses_what_is_no_index(loaded: BPFObject) -> None:
    kinds, numbered = loaded.maps["kinds"], loaded.maps["numbered"]
    kinds["TX"] = 5
    assert (kinds["TX"], kinds[1], "RX" in kinds) == (5, 5, True)
    assert [key.name for key in kinds] == ["RX", "TX", "LOST"]
    with pytest.raises(ValueError, match="map 'kinds' key must be one of RX, TX, LOST, not 'PINK'"):
        kinds["PINK"]
    for key in (-1, 2):
        assert key not in numbered
        with pytest.raises(KeyError):
            numbered[key]
        with pytest.raises(KeyError, match=rf"{key}: map 'numbered' has the keys 0 to 1"):
            numbered[key] = 1


def test_a_map_is_closed_once_and_not_entered_again() -> None:
    made = Map.create("array", key_size=4, value_size=4, max_entries=1, name="once")
    made.close()
    with pytest.raises(ValueError, match="map 'once' is closed"):
        made.__enter__()
