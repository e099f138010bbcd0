"""Records of C types in Python: of varying length, written back as they were, pickled, and not endless."""

from __future__ import annotations

import copy
import pickle
import struct
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest

from netkit_bpf import _core
from netkit_bpf.btf.arrays import dtype_of, to_array
from netkit_bpf.btf.codec import Codec, Raw
from netkit_bpf.btf.structure import Structure
from netkit_bpf.btf.types import RawMember, RawType, Types
from programs import build

SOURCE = """
typedef unsigned char __u8; typedef unsigned short __u16; typedef unsigned int __u32; typedef unsigned long long __u64;
enum color { RED = 1, GREEN };
struct point { short x, y; };
struct text { __u64 t; __u32 length; char data[]; };
struct raw { __u64 t; __u32 length; __u8 data[]; };
struct words { __u32 count; __u8 kind; __u16 data[]; };
struct points { __u64 t; __u16 count; struct point data[]; };
struct rows { __u32 count; __u8 macs[][6]; };
struct within { __u32 id; struct text text; };
struct either { __u64 t; __u16 n; union { char text[0]; __u8 raw[0]; struct { struct {} none; __u16 words[]; }; }; };
struct marked { __u32 a; __u8 here[0]; __u32 b; };
union label { char text[8]; __u8 bytes[8]; };
struct labelled { __u32 id; union { char text[8]; __u64 number; }; };
struct padded { __u8 a; __u32 b; };
union holds { struct padded padded; __u64 whole; };
union flags { struct { __u8 a : 4, b : 4; }; __u8 raw; };
union raw_first { __u8 raw; struct { __u8 a : 4, b : 4; }; };
union truth { _Bool flag; __u8 number; };
struct chars { char low : 3; signed char middle : 4; unsigned char high : 7; char plain; };
struct many { int m[2][3]; struct point p[2][4]; __u8 macs[2][6]; char names[3][16]; int *where[2]; enum color c; };
struct record { __u32 id; enum color color; struct point where; char name[8]; };

struct text *text; struct raw *raw; struct words *words; struct points *points; struct rows *rows;
struct within *within;
struct either *either; struct marked marked; union label label; struct labelled labelled; union holds holds;
union truth truth; union flags flags; union raw_first raw_first; struct chars chars;
struct many many; struct record record;
"""


@pytest.fixture(scope="module")
def types() -> Types:
    found = _core.Object(build(SOURCE), "types").types()
    assert found is not None
    return Types(found)


@pytest.mark.parametrize("length", range(9))
def test_a_flexible_array_begins_within_the_padding(types: Types, length: int) -> None:
    text, tail = types.find("struct text"), b"abcdefgh"[:length]
    assert text.size == 16
    assert text.decode(struct.pack("=QI", 1, length) + tail) == (1, length, tail)
    assert types.find("struct raw").decode(struct.pack("=QI", 1, length) + tail) == (1, length, tail)


@pytest.mark.parametrize("count", range(5))
def test_a_flexible_array_holds_elements_of_any_type(types: Types, count: int) -> None:
    shorts = struct.pack(f"={2 * count}h", *range(2 * count))
    points = tuple((2 * each, 2 * each + 1) for each in range(count))
    assert types.find("struct points").decode(struct.pack("=QH", 1, count) + shorts) == (1, count, points)
    words = types.find("struct words")
    assert words.decode(struct.pack("=IBx", 1, 2) + shorts) == (1, 2, tuple(range(2 * count)))
    assert types.find("struct rows").decode(struct.pack("=I", 1) + b"\1" * 6 * count) == (1, (b"\1" * 6,) * count)
    within = types.find("struct within").decode(struct.pack("=IxxxxQI", 9, 1, 2) + b"abcdef"[:count])
    assert within == (9, (1, 2, b"abcdef"[:count]))


def test_flexible_arrays_of_a_union_share_what_is_there(types: Types) -> None:
    either = types.find("struct either").decode(struct.pack("=QH", 1, 2) + b"ab\0c")
    assert (either.text, either.raw, either.words) == (b"ab", b"ab\0c", (0x6261, 0x6300))
    assert types.find("struct either").decode(struct.pack("=QH", 1, 2)).words == ()


def test_what_is_no_whole_element_is_left_out(types: Types) -> None:
    assert types.find("struct words").decode(struct.pack("=IBxHB", 1, 2, 3, 4)) == (1, 2, (3,))


def test_a_record_shorter_than_its_fixed_part_is_refused(types: Types) -> None:
    with pytest.raises(ValueError, match="struct text takes 12 bytes at least, not 11"):
        types.find("struct text").decode(bytes(11))
    with pytest.raises(ValueError, match="struct within takes 20 bytes at least, not 19"):
        types.find("struct within").decode(bytes(19))
    marked = types.find("struct marked")  # an array of no elements in the middle of it is not flexible
    assert marked.decode(struct.pack("=II", 1, 2)) == (1, b"", 2)
    with pytest.raises(ValueError, match="struct marked takes 8 bytes, not 9"):
        marked.decode(bytes(9))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("union label", b"one\0two\0"),
        ("struct labelled", struct.pack("=I4x8s", 7, b"a\0bcdefg")),
        ("union holds", b"\1\xaa\xbb\xcc\2\0\0\0"),
        ("union truth", b"\2"),
    ],
)
def test_what_was_read_of_a_union_is_written_back_as_it_was(types: Types, name: str, data: bytes) -> None:
    codec = types.find(name)
    value = codec.decode(data)
    assert codec.encode(value, "value") == data
    assert codec.encode(pickle.loads(pickle.dumps(value)), "value") == data
    assert codec.encode(copy.deepcopy(value), "value") == data


def test_records_that_keep_other_bytes_are_not_equal(types: Types) -> None:
    codec = types.find("struct padded")
    assert isinstance(codec, Structure)
    clean = codec.encode((1, 2), "value")
    dirty = clean[:1] + b"\xff" + clean[2:]
    one, same, other = (codec.whole(codec.decode(data), data) for data in (clean, clean, dirty))
    assert (one == same, one == other, one == (1, 2), other == (1, 2)) == (True, False, True, True)
    assert (one != same, one != other, one != (1, 2)) == (False, True, False)
    assert len({one, same, other, pickle.loads(pickle.dumps(other))}) == 2
    assert {one: 7}[1, 2] == 7


def test_a_replaced_member_of_a_union_changes_the_others_with_it(types: Types) -> None:
    codec = types.find("struct labelled")
    value = codec.decode(struct.pack("=I4x8s", 7, b"a\0bcdefg"))
    assert codec.encode(value._replace(id=8), "value") == struct.pack("=I4x8s", 8, b"a\0bcdefg")
    changed = value._replace(number=0x6261)
    assert (changed.text, codec.encode(changed, "value")) == (b"ab", struct.pack("=I4xQ", 7, 0x6261))
    assert value._replace(text="xy").number == 0x7978
    with pytest.raises(ValueError, match="has no field 'nix'"):
        value._replace(nix=1)


@pytest.mark.parametrize("name", ["union flags", "union raw_first"])
def test_bit_fields_share_their_bits_with_other_members(types: Types, name: str) -> None:
    codec = types.find(name)
    value = codec.decode(codec.encode({"a": 1, "b": 2}, "value"))
    assert (value.a, value.b) == (1, 2)
    assert codec.decode(codec.encode(tuple(value), "value")) == value
    changed = value._replace(a=5)
    assert (changed.a, changed.b) == (5, 2)
    assert codec.decode(codec.encode(changed, "value")) == changed
    assert codec.encode(value._replace(raw=0x77), "value") == b"\x77"
    for given in ({**value._asdict(), "b": 5}, {"b": 1, "raw": 0xFF}, {"raw": 0xFF, "b": 1}):
        with pytest.raises(ValueError, match=r"(raw and \.b|b and \.raw) share their bytes and differ"):
            codec.encode(given, "value")


def test_a_value_of_another_union_is_taken_by_its_fields(types: Types) -> None:
    """What is kept beside the fields is of no use to another type."""
    label = types.find("union label").decode(b"one\0two\0")
    with pytest.raises(ValueError, match="share their bytes and differ"):
        types.find("union label").encode(tuple(label), "value")
    with pytest.raises(TypeError, match="must be"):
        types.find("struct point").encode(label, "value")


def test_bit_fields_of_char_are_numbers(types: Types) -> None:
    codec = types.find("struct chars")
    value = codec.decode(codec.encode((-4, 7, 127, b"x"), "value"))
    assert value == (-4, 7, 127, b"x")
    with pytest.raises(OverflowError, match=r"value\.low must be -4 to 3, not 4"):
        codec.encode({"low": 4}, "value")
    assert to_array(codec, codec.encode(value, "value")).tolist() == [(-4, 7, 127, b"x")]


def test_arrays_are_named_as_c_writes_them(types: Types) -> None:
    many = types.find("struct many")
    assert isinstance(many, Structure)
    assert [member.codec.name for member in many.members] == [
        *("int[2][3]", "struct point[2][4]", "unsigned char[2][6]", "char[3][16]", "pointer[2]", "enum color"),
    ]


def test_records_and_enumeration_members_are_pickled_and_copied(types: Types) -> None:
    codec = types.find("struct record")
    value = codec.decode(codec.encode((1, "GREEN", (2, 3), "me"), "value"))
    for same in (pickle.loads(pickle.dumps(value)), copy.copy(value), copy.deepcopy([value])[0]):
        assert same == value
        assert (type(same), type(same.color), type(same.where)) == (type(value), type(value.color), type(value.where))
        assert (same.color.name, same.where.y, same._asdict()["name"]) == ("GREEN", 3, b"me")
    text = types.find("struct text").decode(struct.pack("=QI", 1, 2) + b"ab")
    assert pickle.loads(pickle.dumps(text)).data == b"ab"


def test_another_process_reads_what_was_pickled(types: Types) -> None:
    codec = types.find("struct record")
    value = codec.decode(codec.encode((1, "GREEN", (2, 3), "me"), "value"))
    program = "import pickle, sys; print(repr(pickle.load(sys.stdin.buffer)))"
    command = [sys.executable, "-c", program]
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        done = subprocess.run(command, input=pickle.dumps(value, protocol), capture_output=True, check=True)
        assert done.stdout.decode().strip() == repr(value)
    assert repr(value) == "record(id=1, color=<color.GREEN: 2>, where=point(x=2, y=3), name=b'me')"


class Table:
    """Types as a damaged object could have them; the last is a structure's."""

    def __init__(self, types: dict[int, RawType]) -> None:
        self._types = types

    def get(self, number: int) -> RawType:
        return self._types[number]

    def find(self, _name: str, _kind: int) -> int:
        return 0


_BYTE: RawType = (1, "unsigned char", 1, 0, 0, 8, 0, ())


def _structure(members: tuple[RawMember, ...], kind: int = 5) -> RawType:
    return (kind, "", 1, 0, 0, 0, 0, members)


def test_unnamed_unions_that_double_are_refused_at_once() -> None:
    table: dict[int, RawType] = {1: _BYTE, 2: _structure((("a", 1, 0, 0, 0),))}
    for number in range(3, 30):
        table[number] = _structure((("", number - 1, 0, 0, 0), ("", number - 1, 0, 0, 0)))
    started = time.monotonic()
    with pytest.raises(ValueError, match="gives union more than 4096 members"):
        Types(Table(table)).codec(29)
    assert time.monotonic() - started < 1.0
    assert isinstance(Types(Table(table)).codec(8), Structure)


def test_types_nested_too_deeply_are_refused() -> None:
    table: dict[int, RawType] = {1: _BYTE}
    for number in range(2, 2000):
        table[number] = _structure((("a", number - 1, 0, 0, 0),))
    with pytest.raises(ValueError, match="nests types more than 64 deep"):
        Types(Table(table)).codec(1999)
    value: Any = Types(Table(table)).codec(60).decode(b"\7")
    assert repr(value).endswith(f"7{')' * 59}")


def test_a_variable_is_as_long_as_its_first_value(types: Types) -> None:
    codec = types.find("struct words")
    assert isinstance(codec, Structure)
    longer = codec.of_bytes(10)
    assert longer.decode(longer.encode((1, 2, (3, 4)), "value")) == (1, 2, (3, 4))
    with pytest.raises(ValueError, match=r"value\.data must have 2 elements, not 3"):
        longer.encode((1, 2, (3, 4, 5)), "value")
    assert dtype_of(longer) == np.dtype(
        {"names": ["count", "kind", "data"], "formats": ["u4", "u1", ("u2", 2)], "offsets": [0, 4, 6], "itemsize": 10}
    )


def test_a_codec_says_whether_bytes_come_back(types: Types) -> None:
    exact = {name: types.find(name).is_exact for name in ("struct point", "struct padded", "union label", "__u32")}
    assert exact == {"struct point": True, "struct padded": False, "union label": False, "__u32": True}
    plain: Codec = Raw(4)
    assert plain.is_exact
