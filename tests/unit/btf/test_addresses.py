"""Internet addresses and numbers in network order, as C types have them."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Any

import numpy as np
import pytest

from netkit_bpf import _core
from netkit_bpf.btf.arrays import dtype_of, from_array, to_array
from netkit_bpf.btf.types import Types
from programs import build

SOURCE = """
#include <linux/types.h>
#include <linux/in.h>
#include <linux/in6.h>
struct flow4 { __be32 src, dst; __be16 sport, dport; __u8 protocol; };
struct flow6 { struct in6_addr src, dst; __be16 sport, dport; };
struct either { union { __be32 v4; __be32 v6[4]; struct in6_addr in6; struct in_addr in4; }; };
struct plain { __u8 four[4]; __u8 sixteen[16]; __u32 number; __be64 wide; __le32 little; __be32 list[3]; };
typedef __be32 mine;
struct own { mine address; };
struct flow4 flow4; struct flow6 flow6; struct either either; struct plain plain; struct own own;
"""
V4, V6 = IPv4Address("10.1.2.3"), IPv6Address("fd00::1")


@pytest.fixture(scope="module")
def types() -> Types:
    found = _core.Object(build(SOURCE), "types").types()
    assert found is not None
    return Types(found)


def test_be32_is_an_address_and_be16_a_number_in_host_order(types: Types) -> None:
    codec = types.find("struct flow4")
    data = V4.packed + bytes(4) + struct.pack(">HHB3x", 443, 50000, 6)
    value = codec.decode(data)
    assert (value.src, value.dst, value.sport, value.dport) == (V4, IPv4Address(0), 443, 50000)
    assert codec.encode(value, "value") == data
    assert codec.encode(("10.1.2.3", 0, 443, 50000, 6), "value") == data
    assert codec.encode({"src": V4.packed, "sport": 443, "dport": 50000, "protocol": 6}, "value") == data
    assert codec.encode({"src": int(V4)}, "value")[:4] == V4.packed


def test_in6_addr_is_an_address(types: Types) -> None:
    codec = types.find("struct flow6")
    data = V6.packed + bytes(16) + struct.pack(">HH", 1, 2)
    value = codec.decode(data)
    assert value == (V6, IPv6Address(0), 1, 2)
    assert repr(value) == "flow6(src=IPv6Address('fd00::1'), dst=IPv6Address('::'), sport=1, dport=2)"
    for written in (V6, "fd00::1", V6.packed, int(V6), list(V6.packed)):
        assert codec.encode((written, 0, 1, 2), "value") == data


def test_four_words_in_network_order_are_an_address_too(types: Types) -> None:
    either = types.find("struct either").decode(V6.packed)
    assert (either.v4, either.v6, either.in6) == (IPv4Address("253.0.0.0"), V6, V6)
    assert either.in4 == either.v4
    assert types.find("struct either").encode({"v4": V4}, "value") == V4.packed + bytes(12)
    assert types.find("struct own").decode(V4.packed).address == V4


def test_arrays_of_bytes_take_addresses_that_fit(types: Types) -> None:
    codec = types.find("struct plain")
    value = codec.decode(codec.encode({"four": V4, "sixteen": V6, "wide": 1, "little": 2, "list": [V4] * 3}, "value"))
    assert (value.four, value.sixteen, value.wide, value.little) == (V4.packed, V6.packed, 1, 2)
    assert value.list == (V4,) * 3
    encoded = codec.encode(value, "value")
    assert struct.pack(">Q", 1) in encoded
    assert struct.pack("<I", 2) in encoded


@pytest.mark.parametrize(
    ("name", "value", "error", "text"),
    [
        ("flow4", {"src": V6}, TypeError, r"value\.src must be an IPv4Address, not IPv6Address"),
        ("flow6", {"src": V4}, TypeError, r"value\.src must be an IPv6Address, not IPv4Address"),
        ("flow6", {"src": "10.0.0.1"}, ValueError, r"value\.src: .*10\.0\.0\.1"),
        ("flow4", {"src": "10.0.0.256"}, ValueError, r"value\.src: .*256"),
        ("flow4", {"src": -1}, OverflowError, r"value\.src must be 0 to 4294967295, not -1"),
        ("flow4", {"src": memoryview(bytes(16)).cast("I")}, ValueError, r"value\.src must be 4 bytes, not 16"),
        ("flow4", {"src": b"abc"}, ValueError, r"value\.src must be 4 bytes, not 3"),
        ("flow4", {"src": 1.5}, TypeError, r"value\.src must be an IPv4Address, not float"),
        ("flow4", {"src": ip_network("10.0.0.0/8")}, TypeError, r"value\.src must be an IPv4Address, not IPv4Network"),
        ("flow4", {"sport": 65536}, OverflowError, r"value\.sport must be 0 to 65535, not 65536"),
        ("flow6", {"src": IPv6Address("fe80::1%2")}, ValueError, r"value\.src has no room for the scope of fe80::1%2"),
        ("plain", {"number": V4}, TypeError, r"must be an integer, not IPv4Address: declare it __be32"),
        ("plain", {"four": V6}, ValueError, r"value\.four must be 4 bytes, not 16"),
    ],
)
def test_what_is_no_such_address_is_refused(
    types: Types, name: str, value: Any, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        types.find(f"struct {name}").encode(value, "value")


def test_arrays_hold_numbers_in_network_order_and_bytes(types: Types) -> None:
    codec = types.find("struct flow4")
    data = codec.encode((V4, 1, 443, 50000, 6), "value")
    array = to_array(codec, data * 2)
    assert array["sport"].tolist() == [443, 443]
    assert array["src"].tolist() == [int(V4)] * 2
    assert from_array(codec, array, "value") == data * 2
    assert from_array(codec, array.astype(array.dtype.newbyteorder("=")), "value") == data * 2
    six = types.find("struct flow6")
    assert dtype_of(six)["src"] == np.dtype(("u1", (16,)))
    given = six.encode((V6, V6, 1, 2), "value")
    assert from_array(six, to_array(six, given), "value") == given
    address = types.find("struct in6_addr")
    assert from_array(address, [V6, "::"], "value") == V6.packed + bytes(16)
    assert to_array(address, V6.packed)[0].tobytes() == V6.packed
