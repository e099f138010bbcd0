"""Objects that are unusual and valid: libbpf loads them, and so they are taken."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import pytest

from elsewhere import needs_clang
from netkit_bpf import BPFObject
from netkit_bpf.bpf.compiler import find_clang
from programs import HEADER, build

SECTION_HEADER = struct.Struct("=IIQQQQIIQQ")


def btf_header_of(image: bytes) -> int:
    """Where the header of its BTF is."""
    return image.index(struct.pack("=HBBI", 0xEB9F, 1, 0, 24), 64)


@needs_clang
@pytest.mark.parametrize("name", ["größe.bpf.c", "日本.c", "a b.c"])
def test_a_source_may_be_called_as_it_likes(tmp_path: Path, name: str) -> None:
    source = tmp_path / name
    source.write_text('__attribute__((section("tc"), used)) int one(void *skb) { return 1; }')
    made = tmp_path / "made.o"
    command = [find_clang(), "-target", "bpf", "-g", "-O2", "-c", name, "-o", str(made)]
    subprocess.run(command, check=True, cwd=tmp_path)
    with BPFObject.open(made) as obj:
        assert obj.programs["one"].test_run(bytes(60)).retval == 1


def test_the_name_of_a_source_may_be_no_utf8(tmp_path: Path) -> None:
    image = build(HEADER + 'SEC("netkit/peer") int one(struct __sk_buff *skb) { return 1; }')
    # The file's name in the table of names; clang calls what it reads from a pipe "-".
    (tmp_path / "latin.o").write_bytes(image.replace(b"\0-\0", b"\0\xf6\0"))
    with BPFObject.open(tmp_path / "latin.o") as obj:
        assert obj.programs["one"].test_run(bytes(60)).retval == 1


def test_identifiers_are_of_any_letters() -> None:
    source = (
        HEADER
        + """
struct größe { __u32 höhe; enum { WEIß = 7 } farbe; };
volatile struct größe größe = { 3, WEIß };
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 4); __type(key, __u32); __type(value, struct größe); }
	counter SEC(".maps");
SEC("netkit/peer") int count(struct __sk_buff *skb)
{
	__u32 key = 1;
	struct größe value = { größe.höhe, größe.farbe };

	bpf_map_update_elem(&counter, &key, &value, BPF_ANY);
	return größe.höhe;
}
"""
    )
    obj = BPFObject.open(build(source))
    assert obj.variables["größe"].value.farbe.name == "WEIß"
    obj.variables["größe"].value = {"höhe": 5}
    with obj:
        assert obj.programs["count"].test_run(bytes(60)).retval == 5
        assert obj.maps["counter"][1].höhe == 5


@pytest.mark.parametrize("tag", ["é", "two\\nlines", "\\xff", ""])
def test_tags_are_any_text(tag: str) -> None:
    source = (
        HEADER
        + f"""
volatile __u32 number __attribute__((btf_decl_tag("{tag}"))) = 4;
SEC("netkit/peer") int one(struct __sk_buff *skb) {{ return number; }}
"""
    )
    with BPFObject.open(build(source)) as obj:
        assert obj.programs["one"].test_run(bytes(60)).retval == 4


def test_an_enumeration_may_be_declared_alone() -> None:
    source = (
        HEADER
        + """
enum later;
struct holder { enum later *later; struct unknown *unknown; __u32 number; };
volatile struct holder holder = { .number = 2 };
SEC("netkit/peer") int one(struct __sk_buff *skb) { return holder.number + (holder.later != 0); }
"""
    )
    with BPFObject.open(build(source)) as obj:
        assert obj.programs["one"].test_run(bytes(60)).retval == 2
        assert obj.variables["holder"].value.number == 2


def test_the_header_of_btf_may_be_longer() -> None:
    """As Linux 7.2's headers have it: two more numbers before what follows, of which older readers know nothing."""
    image = build(HEADER + 'volatile int n = 3; SEC("netkit/peer") int one(struct __sk_buff *skb) { return n; }')
    at = btf_header_of(image)
    magic, version, flags, length, type_off, type_len, str_off, str_len = struct.unpack_from("=HBBIIIII", image, at)
    body = image[at + length : at + length + str_off + str_len]
    longer = struct.pack("=HBBIIIIIII", magic, version, flags, 32, type_off, type_len, str_off, str_len, 0, 0) + body
    moved = bytearray(image + bytes(-len(image) % 8) + longer)
    sections, count = struct.unpack_from("=Q", image, 40)[0], struct.unpack_from("=H", image, 60)[0]
    for number in range(count):
        header = list(SECTION_HEADER.unpack_from(image, sections + 64 * number))
        if header[4] == at:
            header[4], header[5] = len(moved) - len(longer), len(longer)
            SECTION_HEADER.pack_into(moved, sections + 64 * number, *header)
    with BPFObject.open(moved) as obj:
        assert obj.variables["n"].value == 3
        assert obj.programs["one"].test_run(bytes(60)).retval == 3
