"""BPF objects that are refused: by the checks before libbpf, by libbpf, by the verifier, by the kernel."""

from __future__ import annotations

import errno
import pickle
import platform
import struct
from pathlib import Path

import pytest

from netkit_bpf import BPFObject, Side, VerifierError, _core
from netkit_bpf.internal.named import Named
from programs import HEADER, OBSERVER, ONE, VERDICTS, build, load

REFUSED = (
    HEADER
    + """
SEC("netkit/primary") int reads_past_the_end(struct __sk_buff *skb)
{
	return *(volatile int *)(long)skb->data_end;
}
"""
)


def refused(source: str, *flags: str) -> OSError:
    """What loading the program raises."""
    obj = BPFObject.open(build(source, *flags))
    with pytest.raises(OSError, match="load ") as caught:
        obj.load()
    obj.close()
    return caught.value


def test_a_verifier_refusal_carries_program_source_reason_and_log(capfd: pytest.CaptureFixture[str]) -> None:
    error = refused(REFUSED)
    assert isinstance(error, VerifierError)
    text = str(error)
    assert "load program 'reads_past_the_end'" in text
    assert "return *(volatile int *)(long)skb->data_end;" in text
    assert "invalid mem access" in text.splitlines()[-1]  # the last lines that matter
    assert len(text.splitlines()) < 8
    assert "BEGIN PROG LOAD LOG" in error.log
    assert "reads_past_the_end" in error.log
    assert capfd.readouterr() == ("", "")  # nothing is printed
    again = pickle.loads(pickle.dumps(error))
    assert (again.errno, again.log) == (error.errno, error.log)


def test_the_source_line_stands_even_before_many_instructions() -> None:
    error = refused(
        HEADER
        + """
SEC("netkit/peer") int far_from_its_line(struct __sk_buff *skb)
{
	asm volatile("r0 = 1;r0 = 2;r0 = 3;r0 = 4;r0 = 5;r0 = 6;r0 = 7; r0 = *(u8 *)(r0 + 0);" ::: "r0");
	return 0;
}
"""
    )
    assert 'asm volatile("r0 = 1;' in str(error)
    assert "invalid mem access" in str(error).splitlines()[-1]


def test_a_long_log_is_whole() -> None:
    """Longer than what the first attempt has room for on any kernel: the room grows."""
    error = refused(
        HEADER
        + """
SEC("netkit/peer") int long_(struct __sk_buff *skb)
{
	asm volatile("r0 = 0\\n.rept 60000\\nr0 += 1\\n.endr" ::: "r0");
	return *(volatile int *)(long)skb->data_end;
}
"""
    )
    assert isinstance(error, VerifierError)
    assert len(error.log) > 1 << 20
    assert "invalid mem access" in str(error).splitlines()[-1]
    assert len(str(error)) < 1000


@pytest.mark.skipif(not Path("/sys/kernel/btf/vmlinux").exists(), reason="this kernel has no types of its own")
def test_a_field_that_the_kernel_lacks_is_named_with_the_kernel() -> None:
    error = refused(
        """
struct sk_buff { unsigned int len; int nix; } __attribute__((preserve_access_index));
struct __sk_buff;
#define SEC(name) __attribute__((section(name), used))
char LICENSE[] SEC("license") = "GPL";
static long (*read_kernel)(void *, unsigned int, const void *) = (void *)113;
SEC("netkit/peer") int looks_inside(struct __sk_buff *skb)
{
	int value = 0;

	read_kernel(&value, sizeof(value), &((struct sk_buff *)skb)->nix);
	return value;
}
"""
    )
    assert isinstance(error, VerifierError)
    assert (
        f"load program 'looks_inside': Invalid argument (struct sk_buff.nix is not in Linux {platform.release()}"
        in (str(error))
    )


def test_a_program_without_a_license_may_not_use_all_helpers() -> None:
    source = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("netkit/peer") int unlicensed(struct __sk_buff *skb) { return 0; }
"""
    with BPFObject.open(build(source)) as obj:
        assert obj.programs["unlicensed"].test_run(bytes(60)).retval == 0
    error = refused(source.replace("return 0", 'bpf_printk("x"); return 0'))
    assert isinstance(error, VerifierError)
    assert "GPL" in str(error)


def test_a_section_that_names_no_type_is_named() -> None:
    obj = BPFObject.open(build(HEADER + 'SEC("netkit/middle") int lost(struct __sk_buff *skb) { return 0; }'))
    with pytest.raises(OSError, match=r"load program 'lost'.*\"netkit/middle\" does not name a program type: try SEC"):
        obj.load()


def test_maps_need_types() -> None:
    source = HEADER + (
        "struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, __u32); __type(value, __u32); }"
        ' counts SEC(".maps");\nSEC("netkit/peer") int f(struct __sk_buff *skb) { __u32 zero = 0;'
        "return bpf_map_lookup_elem(&counts, &zero) != 0; }"
    )
    with pytest.raises(OSError, match="BTF is required"):
        BPFObject.open(build(source, "-g0"))


@pytest.mark.parametrize("image", [b"", b"not an object", b"\x7fELF" + bytes(100)], ids=["empty", "text", "cut"])
def test_what_is_no_object_is_refused(image: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(OSError, match="open BPF object object: Exec format error") as caught:
        BPFObject.open(image)
    assert caught.value.errno == errno.ENOEXEC
    assert capfd.readouterr() == ("", "")


def test_objects_for_something_else_are_refused_by_name(tmp_path: Path) -> None:
    good = build(VERDICTS)
    other_order = bytearray(good)
    other_order[5] = 3 - other_order[5]
    with pytest.raises(OSError, match="compiled for the other byte order"):
        BPFObject.open(other_order)
    with pytest.raises(OSError, match="not compiled for BPF but for machine"):
        BPFObject.open(good[:18] + struct.pack("=H", 62) + good[20:])
    with pytest.raises(OSError, match="not an object file: compile with clang -c"):
        BPFObject.open(good[:16] + struct.pack("=H", 3) + good[18:])
    with pytest.raises(OSError, match="not a 64-bit ELF file"):
        BPFObject.open(good[:4] + b"\1" + good[5:])
    with pytest.raises(OSError, match="cut short"):
        BPFObject.open(good[:-1])
    (tmp_path / "mine.bpf.o").write_bytes(good[:100])
    with pytest.raises(OSError, match="open BPF object mine"):
        BPFObject.open(tmp_path / "mine.bpf.o")
    with pytest.raises(FileNotFoundError):
        BPFObject.open(tmp_path / "nix.bpf.o")
    with pytest.raises(TypeError, match="source must be a path or bytes, not int"):
        BPFObject.open(3)  # type: ignore[arg-type]


def test_an_object_is_loaded_once_and_closed_for_good() -> None:
    obj = BPFObject.open(build(VERDICTS))
    assert repr(obj) == "<BPFObject object open>"
    assert list(obj.programs) == ["first", "second", "third", "pass", "drop", "of_another_type"]
    with obj:
        assert repr(obj) == "<BPFObject object loaded>"
        with pytest.raises(ValueError, match="BPF object object is loaded already"):
            obj.load()
    assert repr(obj) == "<BPFObject object closed>"
    for use in (obj.load, obj.__enter__):
        with pytest.raises(ValueError, match="BPF object object is closed"):
            use()
    with pytest.raises(TypeError):
        obj.programs["new"] = obj.programs["first"]  # type: ignore[index]


def test_names_that_are_not_there_are_named() -> None:
    image = Path(_core.__file__).with_name("monitor.bpf.o").read_bytes()
    program = _core.Object(image, "monitor")
    with pytest.raises(FileNotFoundError, match="find map 'nix' in BPF object monitor"):
        program.map("nix")
    with pytest.raises(FileNotFoundError, match="find variable 'nix'"):
        program.set_variable("nix", b"")
    with pytest.raises(ValueError, match="variable 'pair_index' takes 2 bytes"):
        program.set_variable("pair_index", b"1")
    program.load()
    with pytest.raises(FileNotFoundError, match="find program 'nix'"):
        program.test_run("nix", bytes(64))


def test_what_an_object_has_is_offered_for_completion() -> None:
    obj = BPFObject.open(build(VERDICTS))
    for named in (obj.programs, obj.maps):
        assert isinstance(named, Named)
        assert named._ipython_key_completions_() == list(named)


def test_the_program_for_a_hook_is_the_only_one_or_that_of_its_section() -> None:
    with load() as obj:
        with pytest.raises(LookupError, match=r"for the peer hook is not clear: .* there are first "):
            obj.program_for("peer")
        with pytest.raises(ValueError, match="side must be 'primary', 'peer', 'ingress' or 'egress', not 'both'"):
            obj.program_for("both")
    with load(OBSERVER) as obj:
        assert obj.program_for(Side.PRIMARY) is obj.programs["of_primary"]
        assert obj.program_for("peer") is obj.programs["of_peer"]
        with pytest.raises(LookupError, match="egress"):
            obj.program_for("egress")
    with load(ONE) as obj:
        assert obj.program_for("egress") is obj.programs["one"]
