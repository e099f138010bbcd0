"""C types in Python, compared with what the struct module makes of their layout in C; needs clang, no privilege."""

from __future__ import annotations

import enum
import math
import struct
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from netkit_bpf import _core
from netkit_bpf.btf.arrays import dtype_of, from_array, to_array
from netkit_bpf.btf.codec import Codec, Float, Integer, Raw
from netkit_bpf.btf.types import RawMember, RawType, Types
from programs import build

SOURCE = """
typedef unsigned char __u8; typedef signed char __s8; typedef unsigned short __u16; typedef short __s16;
typedef unsigned int __u32; typedef int __s32; typedef unsigned long long __u64; typedef long long __s64;

enum color { RED = 1, GREEN = 2, BLUE = -3 };
enum keyword { None_ = 0, mro = 7 };
enum { NAMELESS = 9 };
typedef enum { FIRST, SECOND } nameless_t;
struct point { __s16 x, y; };
union address { __u32 v4; __u8 v6[16]; __u16 words[8]; };
typedef struct { __u64 high, low; } pair_t;
struct holes { __u8 a; __u32 b; __u8 c; __u64 d; __u8 e; };
struct bits {
	__u32 low : 3, middle : 7; int sign : 5; __u64 wide : 40;
	enum color color : 4; _Bool flag : 1; __u8 : 0; __u8 after; __s64 deep : 63;
};
struct nested { struct point points[2][3]; union address where; struct { int in; union { int a; char b; }; }; };
struct variable { __u16 count; char text[]; };
struct records { __u32 count; struct point points[]; };
struct empty {};
struct words { int class; int _hidden; int __pad; int count; int index; };
struct paddings { int _pad, pad; unsigned int class_ : 3, class : 5; };
struct wide { __u32 k : 3; unsigned __int128 whole; __int128 list[2]; };
struct wide_bits { __int128 small : 5, large : 100; unsigned __int128 long_ : 70, last : 64; };
struct nothing { __u8 a; struct empty none; struct { struct empty none; } within; int zero[0]; __u32 bit : 1; };
struct node { struct node *next; const volatile __u32 *const restrict value; void (*call)(int); };
struct of_bits { __u8 first; struct bits each[2]; __u16 last; };
struct everything {
	__u8 u8; __s8 s8; __u16 u16; __s16 s16; __u32 u32; __s32 s32; __u64 u64; __s64 s64;
	_Bool flag; char letter; enum color color; char name[8]; __u8 mac[6]; __s8 small[3]; float single_; double double_;
	__u32 array[3]; __u16 table[2][2]; void *pointer;
};

struct everything everything; struct holes holes; struct bits bits; struct nested nested; struct variable *variable;
struct records *records; struct empty empty; struct words words; struct paddings paddings; struct node node;
struct of_bits of_bits; enum keyword keyword; pair_t pair; nameless_t nameless; enum color color;
const volatile __u16 constant; __int128 wide_; unsigned __int128 uwide; union address address; char text[4];
char letter; _Bool flags[3];
struct wide wide; struct wide_bits wide_bits; struct nothing nothing;
"""


@pytest.fixture(scope="module")
def types() -> Types:
    found = _core.Object(build(SOURCE), "types").types()
    assert found is not None
    return Types(found)


@pytest.fixture(scope="module")
def variable(types: Types) -> Callable[[str], Codec]:
    """The type of a global variable."""
    core = _core.Object(build(SOURCE), "types")
    numbers = {name: number for name, _, number, _, _ in core.variables()}
    return lambda name: types.codec(numbers[name])


VALUES = (
    *(255, -128, 65535, -32768, 4294967295, -2147483648, 2**64 - 1, -(2**63)),
    *(True, b"x", 2, b"netkit", bytes(range(6)), (-1, 0, 1), 0.5, math.pi),
    *((1, 2, 3), ((1, 2), (3, 65535)), 2**48),
)
# As the C compiler lays it out: each member at a multiple of its size.
LAYOUT = "=BbHh2xIiQq?c2xi8s6s3b3xfd3I4H4xQ"


def test_every_scalar_lies_where_c_has_it(types: Types) -> None:
    codec = types.find("struct everything")
    flat = [*VALUES[:13], *VALUES[13], VALUES[14], VALUES[15], *VALUES[16], *VALUES[17][0], *VALUES[17][1], VALUES[18]]
    expected = struct.pack(LAYOUT, *flat)
    assert codec.size == len(expected)
    assert codec.encode(VALUES, "value") == expected
    decoded = codec.decode(expected)
    assert tuple(decoded) == VALUES
    assert [*map(type, decoded)] == [*map(type, VALUES[:10]), type(decoded.color), *map(type, VALUES[11:])]
    assert isinstance(decoded.color, enum.IntEnum)
    assert decoded.color.name == "GREEN"
    assert decoded._fields[:3] == ("u8", "s8", "u16")
    assert type(decoded).__name__ == "everything"


def test_tuples_dicts_and_bytes_are_taken(types: Types) -> None:
    codec = types.find("struct holes")
    expected = struct.pack("=BxxxIBxxxxxxxQB7x", 1, 2, 3, 4, 5)
    assert codec.encode((1, 2, 3, 4, 5), "value") == expected
    assert codec.encode([1, 2, 3, 4, 5], "value") == expected
    assert codec.encode({"a": 1, "b": 2, "c": 3, "d": 4, "e": 5}, "value") == expected
    assert codec.encode({"d": 4}, "value") == struct.pack("=8xxxxxxxxxQ8x", 4)
    assert codec.encode(expected, "value") == expected
    assert codec.encode(codec.decode(expected), "value") == expected


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        *(("u8", 0, 255), ("s8", -128, 127), ("u16", 0, 65535), ("s16", -32768, 32767), ("u32", 0, 2**32 - 1)),
        *(("s32", -(2**31), 2**31 - 1), ("u64", 0, 2**64 - 1), ("s64", -(2**63), 2**63 - 1)),
        ("pointer", 0, 2**64 - 1),
    ],
)
def test_an_integer_that_does_not_fit_names_field_and_range(types: Types, name: str, least: int, most: int) -> None:
    codec = types.find("everything")
    for value in (least, most):
        assert getattr(codec.decode(codec.encode({name: value}, "value")), name) == value
    for value in (least - 1, most + 1):
        with pytest.raises(OverflowError, match=rf"^event\.{name} must be {least} to {most}, not {value}$"):
            codec.encode({name: value}, "event")
    for wrong in ("1", 1.0, None, b"1", [1]):
        with pytest.raises(TypeError, match=rf"^event\.{name} must be an integer, not {type(wrong).__name__}$"):
            codec.encode({name: wrong}, "event")


@pytest.mark.parametrize(
    ("name", "value", "error", "text"),
    [
        ("flag", 1, TypeError, "must be a bool, not int"),
        ("letter", b"xy", ValueError, "must be 1 byte, not 2"),
        ("letter", 120, TypeError, "must be bytes or str, not int"),
        ("name", b"far too long", ValueError, "must be at most 8 bytes, not 12"),
        ("name", 5, TypeError, "must be bytes or str, not int"),
        ("mac", bytes(5), ValueError, "must be 6 bytes, not 5"),
        ("mac", (1, 2, 3, 4, 5, 256), OverflowError, r"\[5\] must be 0 to 255, not 256"),
        ("mac", 1, TypeError, "must be a sequence, not int"),
        ("small", (0, 0, 128), OverflowError, r"\[2\] must be -128 to 127, not 128"),
        ("small", (0, 0), ValueError, "must have 3 elements, not 2"),
        ("small", "abc", TypeError, "must be a sequence, not str"),
        ("table", ((1, 2), (3, "4")), TypeError, r"\[1\]\[1\] must be an integer, not str"),
        ("single_", "1", TypeError, "must be a number, not str"),
        ("single_", 1e39, OverflowError, r"must fit a float of 4 bytes, not 1e\+39"),
        ("color", "PINK", ValueError, "must be one of RED, GREEN, BLUE, not 'PINK'"),
        ("color", 1.5, TypeError, "must be an integer, not float"),
    ],
)
def test_a_wrong_value_names_its_field(
    types: Types, name: str, value: object, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=rf"^value\.{name}.*{text}$"):
        types.find("struct everything").encode({name: value}, "value")


def test_a_structure_says_which_fields_it_has(types: Types) -> None:
    point = types.find("struct point")
    with pytest.raises(ValueError, match=r"^p must have 2 fields \(x, y\), not 3$"):
        point.encode((1, 2, 3), "p")
    with pytest.raises(ValueError, match=r"^p has no field 'z'; it has x, y$"):
        point.encode({"z": 1}, "p")
    with pytest.raises(TypeError, match=r"^p must be a tuple or dict of x, y, not int$"):
        point.encode(1, "p")
    with pytest.raises(ValueError, match=r"^p must be 4 bytes, not 3$"):
        point.encode(b"abc", "p")
    with pytest.raises(ValueError, match="struct point takes 4 bytes, not 3"):
        point.decode(b"abc")


def test_enumerations_take_names_and_give_members(types: Types) -> None:
    color = types.find("enum color")
    assert color.encode("BLUE", "c") == color.encode(-3, "c") == struct.pack("=i", -3)
    blue = color.decode(struct.pack("=i", -3))
    assert (blue.name, blue, type(blue).__name__) == ("BLUE", -3, "color")
    unknown = color.decode(struct.pack("=i", 77))
    assert (unknown, type(unknown)) == (77, int)


def test_an_enumeration_whose_words_python_needs_gives_numbers(variable: Callable[[str], Codec]) -> None:
    keyword = variable("keyword")
    assert keyword.decode(struct.pack("=I", 7)) == 7
    assert keyword.encode("mro", "k") == struct.pack("=I", 7)


def test_a_typedef_names_what_has_no_name(variable: Callable[[str], Codec]) -> None:
    assert type(variable("nameless").decode(struct.pack("=I", 1))).__name__ == "nameless_t"
    assert repr(variable("pair").decode(struct.pack("=QQ", 1, 2))) == "pair_t(high=1, low=2)"
    assert variable("constant").decode(struct.pack("=H", 80)) == 80


@pytest.mark.parametrize(
    ("enumerators", "encoding", "kind", "size", "expected"),
    [
        ([("A", 1), ("B", 0xFFFFFFFD)], 0, 6, 4, {"A": 1, "B": -3}),  # clang before 15 does not say that it is signed
        ([("A", 1), ("B", 0x80000000)], 0, 6, 4, {"A": 1, "B": 0x80000000}),  # no small negative number
        ([("A", -3)], 1, 6, 4, {"A": -3}),
        ([("A", -1), ("B", 5)], 0, 19, 8, {"A": 2**64 - 1, "B": 5}),
        ([("A", -1), ("B", 2**40)], 1, 19, 8, {"A": -1, "B": 2**40}),
        ([("A", 5)], 0, 6, 1, {"A": 5}),
    ],
)
def test_enumerations_of_all_widths(
    enumerators: list[tuple[str, int]], encoding: int, kind: int, size: int, expected: dict[str, int]
) -> None:
    members = tuple((name, 0, 0, 0, value) for name, value in enumerators)
    codec = Types(Table({1: (kind, "e", size, 0, encoding, 0, 0, members)})).codec(1)
    assert codec.size == size
    for name, value in expected.items():
        decoded = codec.decode(codec.encode(name, "e"))
        assert (decoded.name, int(decoded)) == (name, value)


@pytest.mark.parametrize(("value", "least", "most"), [(0xFFFFFFFD, -(2**31), 2**31 - 1), (0x80000000, 0, 2**32 - 1)])
def test_an_enumeration_of_unknown_sign_takes_numbers_either_way(value: int, least: int, most: int) -> None:
    members: tuple[RawMember, ...] = (("A", 0, 0, 0, 1), ("B", 0, 0, 0, value))
    codec = Types(Table({1: (6, "e", 4, 0, 0, 0, 0, members)})).codec(1)
    for number in (value, value - 2**32, np.uint32(value)):
        encoded = codec.encode(number, "e")
        assert (encoded, codec.decode(encoded).name) == (struct.pack("=I", value), "B")
    for wrong in (2**32, -(2**31) - 1):
        with pytest.raises(OverflowError, match=f"^e must be {least} to {most}, not {wrong}$"):
            codec.encode(wrong, "e")
    with pytest.raises(TypeError, match="e must be an integer, not float"):
        codec.encode(1.5, "e")


def test_a_large_enumeration_whose_values_were_cut_has_no_names() -> None:
    """As clang before 15 writes it: 0x100000001 would be the same as 1."""
    members: tuple[RawMember, ...] = (("NONE", 0, 0, 0, 0), ("HIGH", 0, 0, 0, 1))
    codec = Types(Table({1: (6, "e", 8, 0, 0, 0, 0, members)})).codec(1)
    for number in (1, 2**32 + 1, 2**64 - 1):
        decoded = codec.decode(codec.encode(number, "e"))
        assert (decoded, type(decoded), codec.name) == (number, int, "enum e")
    with pytest.raises(TypeError, match="e must be an integer, not str"):
        codec.encode("HIGH", "e")


class Table:
    """Types made by hand: what this clang does not make."""

    def __init__(self, types: dict[int, RawType]) -> None:
        self.types = types

    def get(self, id: int) -> RawType:  # noqa: A002
        return self.types[id]

    def find(self, name: str, kind: int) -> int:
        return next((number for number, each in self.types.items() if each[:2] == (kind, name)), 0)


def test_bit_fields_lie_where_c_has_them(types: Types) -> None:
    codec = types.find("struct bits")
    value = {"low": 5, "middle": 100, "sign": -16, "wide": 2**40 - 2, "color": "GREEN", "flag": True, "after": 200}
    value["deep"] = -(2**62)
    encoded = codec.encode(value, "b")
    decoded = codec.decode(encoded)
    assert decoded._asdict() == {**value, "color": 2}
    assert [type(decoded.color).__name__, type(decoded.flag)] == ["color", bool]
    if sys.byteorder == "little":  # the first of them has the least significant bits
        assert struct.unpack_from("=I", encoded)[0] & 0x7FFF == 5 | 100 << 3 | (-16 & 31) << 10
    assert codec.encode(decoded, "b") == encoded
    for name, wrong in (("low", 8), ("sign", 16), ("sign", -17), ("wide", 2**40), ("middle", -1), ("deep", 2**62)):
        with pytest.raises(OverflowError, match=rf"^b\.{name} must be -?\d+ to \d+, not {wrong}$"):
            codec.encode({name: wrong}, "b")


def test_bit_fields_of_older_compilers_are_read() -> None:
    """Where the integer's own type says how many bits it has, and from which one on."""
    integer: RawType = (1, "unsigned int", 4, 0, 0, 5, 3, ())
    member: RawMember = ("odd", 1, 8, 0, 0)
    codec = Types(Table({1: integer, 2: (4, "old", 4, 0, 0, 0, 0, (member,))})).codec(2)
    assert codec.decode((0b10101 << 11).to_bytes(4, "little")).odd == 0b10101


def test_unions_are_read_in_all_ways_and_written_in_one(types: Types) -> None:
    codec = types.find("union address")
    value = codec.decode(bytes(range(16)))
    assert value.v6 == bytes(range(16))
    assert value.v4 == struct.unpack_from("=I", value.v6)[0]
    assert value.words[7] == struct.unpack_from("=H", value.v6, 14)[0]
    assert codec.encode(value, "a") == bytes(range(16))
    assert codec.encode({"v4": 7}, "a") == struct.pack("=I12x", 7)
    with pytest.raises(ValueError, match=r"^a\.v6 and \.v4 share their bytes and differ: give one, in a dict$"):
        codec.encode((9, *value[1:]), "a")
    assert codec.encode(value._replace(v4=9), "a") == struct.pack("=I", 9) + bytes(range(4, 16))


def test_unnamed_members_are_the_outer_structures_own(types: Types) -> None:
    codec = types.find("struct nested")
    value = codec.decode(codec.encode({"points": (((1, 2), (3, 4), (5, 6)),) * 2, "in": 8, "b": b"c"}, "n"))
    assert value._fields == ("points", "where", "in_", "a", "b")
    assert value.points[1][2].y == 6
    assert (value.in_, value.a, value.b) == (8, ord("c"), b"c")
    assert codec.decode(codec.encode({"in_": 3}, "n")).in_ == 3  # by Python's name, too
    with pytest.raises(OverflowError, match=r"^n\.points\[1\]\[0\]\.y must be -32768 to 32767, not 32768$"):
        codec.encode({"points": (((0, 0),) * 3, ((0, 32768), (0, 0), (0, 0)))}, "n")


def test_names_that_python_does_not_take_are_changed(types: Types) -> None:
    codec = types.find("struct words")
    value = codec.decode(struct.pack("=5i", 1, 2, 3, 4, 5))
    assert value._asdict() == {"class_": 1, "hidden": 2, "pad": 3, "count": 4, "index": 5}


def test_a_name_of_c_means_its_own_member(types: Types) -> None:
    codec = types.find("struct paddings")
    given = {"_pad": 1, "pad": 2, "class_": 3, "class": 4}
    for name in given:
        one = codec.decode(codec.encode({name: 7}, "p"))
        assert [each for each, number in zip(given, one, strict=True) if number] == [name]
    data = codec.encode(given, "p")
    value = codec.decode(data)
    assert value._asdict() == {"pad_0": 1, "pad": 2, "class_": 3, "class__3": 4}
    assert codec.encode(value._asdict(), "p") == data
    assert from_array(codec, to_array(codec, data), "p") == data


def test_pointers_are_integers(types: Types) -> None:
    node = types.find("struct node").decode(struct.pack("=QQQ", 1, 2**63, 0))
    assert tuple(node) == (1, 2**63, 0)


def test_a_flexible_array_holds_what_is_left(types: Types) -> None:
    text = types.find("struct variable")
    assert text.decode(struct.pack("=H", 3)) == (3, b"")
    assert text.decode(struct.pack("=H6s", 3, b"abc")) == (3, b"abc")
    records = types.find("struct records")
    assert records.decode(struct.pack("=I4h", 2, 1, 2, 3, 4)).points == ((1, 2), (3, 4))


def test_arrays_of_char_end_at_the_first_zero(variable: Callable[[str], Codec]) -> None:
    text = variable("text")
    assert [text.decode(raw) for raw in (b"\0\0\0\0", b"ab\0c", b"abcd")] == [b"", b"ab", b"abcd"]
    assert text.encode("é", "t") == "é".encode() + b"\0\0"
    assert variable("letter").encode("x", "l") == b"x"
    assert variable("flags").decode(b"\1\0\2") == (True, False, True)
    assert variable("empty").decode(b"") == ()


@pytest.mark.parametrize("name", ["wide_", "uwide"])
def test_integers_of_16_bytes(variable: Callable[[str], Codec], name: str) -> None:
    codec = variable(name)
    least, most = (-(2**127), 2**127 - 1) if name == "wide_" else (0, 2**128 - 1)
    for value in (least, most, 1 << 70):
        assert codec.decode(codec.encode(value, "w")) == value
    with pytest.raises(OverflowError, match=f"must be {least} to {most}"):
        codec.encode(most + 1, "w")


def test_types_are_found_by_name(types: Types) -> None:
    assert types.find("point") is types.find("struct point")
    assert types.find("__u16").size == 2
    assert types.find("union address").size == 16
    for name in ("nix", "struct nix", "union point", "", "struct"):
        with pytest.raises(LookupError, match="the object has no type"):
            types.find(name)


def test_numpy_has_the_same_fields_at_the_same_places(types: Types) -> None:
    codec = types.find("struct everything")
    data = codec.encode(VALUES, "value") + codec.encode({"u8": 7, "name": "b"}, "value")
    array = to_array(codec, data)
    assert array.dtype == dtype_of(codec)
    assert array.dtype.itemsize == codec.size
    assert array.base is not None  # a view
    assert array["u8"].tolist() == [255, 7]
    assert array["name"].tolist() == [b"netkit", b"b"]
    assert array["table"][0].tolist() == [[1, 2], [3, 65535]]
    for name in ("s8", "u16", "s16", "u32", "s32", "u64", "s64", "flag", "letter", "single_", "double_", "pointer"):
        assert array[name][0] == codec.decode(data[: codec.size])._asdict()[name]
    assert from_array(codec, array, "values") == data
    assert from_array(codec, list(array), "values") == data
    assert from_array(codec, [codec.decode(data[: codec.size])], "values") == data[: codec.size]


def test_memory_between_the_fields_of_an_array_stays_here(types: Types) -> None:
    codec = types.find("struct holes")
    clean = codec.encode((1, 2, 3, 4, 5), "value")
    array = np.frombuffer(bytearray(b"\xff" * 2 * codec.size), dtype_of(codec))
    array["a"], array["b"], array["c"], array["d"], array["e"] = 1, 2, 3, 4, 5
    assert array.tobytes() != clean * 2
    assert from_array(codec, array, "keys") == clean * 2
    assert from_array(codec, np.sort(array)[::-1], "keys") == clean * 2


def test_what_was_read_into_an_array_is_written_as_it_was(types: Types) -> None:
    codec = types.find("struct holes")
    data = bytes(range(2 * codec.size))
    array = to_array(codec, data)
    assert from_array(codec, array, "keys") == data
    assert from_array(codec, array[1:], "keys") == data[codec.size :]
    assert from_array(codec, array.copy(), "keys") == b"".join(codec.encode(tuple(each), "k") for each in array)


def test_numpy_gets_bit_fields_as_integers(types: Types) -> None:
    codec = types.find("struct of_bits")
    bits: dict[str, Any] = {"low": 5, "middle": 100, "sign": -16, "wide": 2**40 - 2, "color": -3, "flag": True}
    bits.update(after=200, deep=-(2**62))
    record = {"first": 1, "each": (bits, {"sign": 15, "deep": 2**62 - 1}), "last": 9}
    data = codec.encode(record, "r") * 3
    array = to_array(codec, data)
    assert array.shape == (3,)
    assert array["last"].tolist() == [9] * 3
    assert {name: array["each"][1, 0][name] for name in bits} == bits
    assert array["each"][:, 1]["deep"].tolist() == [2**62 - 1] * 3
    assert array["each"][:, 1]["sign"].tolist() == [15] * 3
    assert from_array(codec, array, "values") == data


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("struct wide", (5, 2**128 - 1, (-1, 2**100))),
        ("struct wide_bits", (-16, -(2**99), 2**70 - 1, 2**64 - 1)),
        ("struct wide_bits", (15, 2**98 + 1, 2**69 + 1, 7)),
        ("unsigned __int128", 2**100 + 1),
        ("__int128", -(2**100)),
        ("struct nothing", (1, (), ((),), (), 1)),
    ],
)
def test_numpy_takes_back_what_it_has_no_numbers_for(types: Types, name: str, value: Any) -> None:
    codec = types.find(name)
    data = codec.encode(value, "v") * 2
    array = to_array(codec, data)
    assert from_array(codec, array, "v") == from_array(codec, list(array), "v") == data
    assert from_array(codec, np.array(array.tolist(), array.dtype), "v") == data


def test_bytes_for_a_large_integer_are_as_many(types: Types) -> None:
    with pytest.raises(ValueError, match="v must be 16 bytes, not 8"):
        types.find("__int128").encode(np.void(bytes(8)), "v")
    bits = dtype_of(types.find("struct wide_bits"))
    assert [bits[name].str for name in ("small", "large", "long_", "last")] == ["<i8", "|V16", "|V16", "<u8"]
    with pytest.raises(OverflowError, match=f"v.long_ must be 0 to {2**70 - 1}"):
        types.find("struct wide_bits").encode({"long_": bytes(8) + b"\xff" * 8}, "v")


def test_values_of_no_bytes_make_an_empty_array(types: Types) -> None:
    assert to_array(types.find("struct empty"), b"").shape == (0,)


def test_arrays_of_another_type_are_checked_one_by_one() -> None:
    codec = Integer("__u16", 2, signed=False)
    assert from_array(codec, np.array([1, 2], np.int64), "keys") == struct.pack("=HH", 1, 2)
    with pytest.raises(OverflowError, match=r"^keys\[1\] must be 0 to 65535, not 70000$"):
        from_array(codec, np.array([1, 70000]), "keys")
    with pytest.raises(TypeError, match=r"^keys\[0\] must be an integer, not float$"):
        from_array(codec, np.array([1.5]), "keys")
    assert from_array(Float("float", 4), np.array([1.5]), "keys") == struct.pack("=f", 1.5)
    raw = to_array(Raw(3), b"abcdef")
    assert raw.tolist() == [b"abc", b"def"]
    assert from_array(Raw(3), list(raw), "keys") == b"abcdef"


def test_masked_values_are_refused(types: Types) -> None:
    for name, value in (("__u16", 3), ("struct point", (1, 2))):
        codec = types.find(name)
        array = np.ma.array([value] * 3, dtype=dtype_of(codec))
        assert from_array(codec, array, "v") == codec.encode(value, "v") * 3
        array[1] = np.ma.masked
        with pytest.raises(ValueError, match=r"^v is masked in places: fill these, as filled\(\) does$"):
            from_array(codec, array, "v")
        assert len(from_array(codec, array.filled(), "v")) == 3 * codec.size


def test_a_type_that_makes_no_sense_is_refused() -> None:
    integer: RawType = (1, "int", 4, 0, 1, 32, 0, ())
    point: RawType = (4, "point", 8, 0, 0, 0, 0, (("x", 1, 0, 0, 0), ("y", 1, 32, 0, 0)))
    for member, text in ((("p", 2, 0, 3, 0), "bit field of p"), (("p", 1, 4, 0, 0), "begin within a byte")):
        table = Table({1: integer, 2: point, 3: (4, "wrong", 16, 0, 0, 0, 0, (member,))})
        with pytest.raises(ValueError, match=text):
            Types(table).codec(3)
    nothing = Types(Table({0: (0, "", 0, 0, 0, 0, 0, ())})).codec(0)
    with pytest.raises(TypeError, match="v is void, which has no values"):
        nothing.encode(1, "v")
