"""Programs compiled from Python, with what the package ships; needs clang, no privilege."""

from __future__ import annotations

import logging
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from elsewhere import needs_clang
from netkit_bpf import BPFObject, CompileError

EIGHT_LINES = """#include <netkit.h>

SEC("netkit/peer")
int drop_all(struct __sk_buff *skb)
{
	return NETKIT_DROP;
}
"""

MUCH = """
#include <netkit.h>
#include <netkit_bpf/packet.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include <linux/icmp.h>
#include <linux/if_arp.h>
#include <linux/if_packet.h>
#include <linux/if_vlan.h>
#include <linux/igmp.h>
#include <linux/mpls.h>
#include <linux/pkt_cls.h>
#include <stddef.h>
#include <stdint.h>

char LICENSE[] SEC("license") = "GPL";
const volatile uint16_t port = PORT;

SEC("netkit/primary")
int judge(struct __sk_buff *skb)
{
	struct nk_event event = {};

	nk_read_packet(skb, &event);
	if (skb->protocol == bpf_htons(ETH_P_IPV6) && event.dst_port == port)
		return event.hop_limit > 1 ? NETKIT_PASS : NETKIT_DROP;
	return event.protocol == IPPROTO_ICMPV6 ? NETKIT_REDIRECT : NETKIT_NEXT;
}
"""


def test_the_name_of_a_file_is_no_source() -> None:
    with pytest.raises(ValueError, match=r"not the name of a file: Path\('prog.c'\).read_text\(\)"):
        BPFObject.compile("prog.c")


@needs_clang
def test_eight_lines_make_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # nothing is there, and nothing is left there
    obj = BPFObject.compile(EIGHT_LINES)
    assert (obj.name, list(obj.programs)) == ("program", ["drop_all"])
    assert list(tmp_path.iterdir()) == []


@needs_clang
@pytest.mark.parametrize(
    "flags", [(), ("-nostdlibinc",)], ids=["headers of the system behind", "no headers of the system"]
)
def test_the_headers_ship_with_the_package(flags: tuple[str, ...]) -> None:
    obj = BPFObject.compile(MUCH, cflags=("-Wall", "-Werror", "-DPORT=4711", *flags))
    assert obj.variables["port"].value == 4711


@needs_clang
def test_the_compilers_messages_are_the_errors_text() -> None:
    with pytest.raises(CompileError) as caught:
        BPFObject.compile("int f(void)\n{\n\treturn nix;\n}\n")
    text = str(caught.value)
    assert "<stdin>:3:9: error: use of undeclared identifier 'nix'" in text
    assert "return nix;" in text
    assert "\x1b" not in text  # no colours
    assert isinstance(caught.value, ValueError)


@needs_clang
def test_the_shipped_headers_come_before_the_systems_and_behind_the_users(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The system's may be older than what the package's own headers and libbpf's need."""
    with caplog.at_level(logging.WARNING):
        BPFObject.compile(EIGHT_LINES, cflags=["-H"])  # clang tells which files it reads
    [record] = caplog.records
    read = [line.split()[-1] for line in record.getMessage().splitlines() if line.startswith(".")]
    assert any(name.endswith("/include/uapi/linux/bpf.h") for name in read)
    assert not [name for name in read if name.startswith("/usr/include/")]
    (tmp_path / "linux").mkdir()
    (tmp_path / "linux" / "bpf.h").write_text("#error mine\n")
    for flags in (["-I", str(tmp_path)], ["-isystem", str(tmp_path)]):
        with pytest.raises(CompileError, match="mine"):
            BPFObject.compile(EIGHT_LINES, cflags=flags)


@pytest.mark.parametrize(
    ("header", "instead"),
    [
        ("string.h", r"__builtin_memcpy\(\)"),
        ("netinet/ip.h", "<linux/ip.h>"),
        ("netinet/in.h", "<linux/in.h>"),
        ("arpa/inet.h", "<bpf/bpf_endian.h>"),
        ("stdio.h", r"bpf_printk\(\)"),
    ],
)
@needs_clang
@pytest.mark.parametrize("flags", [(), ("-nostdlibinc",)], ids=["the system has it", "the system has it not"])
def test_a_header_of_the_c_library_is_answered_with_what_to_take(
    header: str, instead: str, flags: tuple[str, ...]
) -> None:
    with pytest.raises(CompileError, match=f"no C library for BPF: instead of <{header}> use {instead}") as caught:
        BPFObject.compile(f"#include <netkit.h>\n#include <{header}>\n" + EIGHT_LINES, cflags=flags)
    assert caught.value.line == 2


@needs_clang
def test_an_error_has_line_and_column() -> None:
    with pytest.raises(CompileError) as caught:
        BPFObject.compile("int f(void)\n{\n\treturn nix;\n}\nint g(void) { return nix; }\n")
    assert (caught.value.line, caught.value.column) == (3, 9)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.line, again.column) == (str(caught.value), 3, 9)
    with pytest.raises(CompileError) as caught:
        BPFObject.compile("int x;", cflags=["-nix"])
    assert (caught.value.line, caught.value.column) == (None, None)


@needs_clang
def test_an_error_in_a_header_has_the_line_that_includes_it(tmp_path: Path) -> None:
    (tmp_path / "mine.h").write_text("\n\n\nint f(void) { return nix; }\n")
    with pytest.raises(CompileError) as caught:
        BPFObject.compile('int x;\n#include "mine.h"\nint y = nix;\n', cflags=[f"-I{tmp_path}"])
    assert (caught.value.line, caught.value.column) == (2, None)


@needs_clang
def test_warnings_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        BPFObject.compile(EIGHT_LINES.replace("return NETKIT_DROP", "int unused; return NETKIT_DROP"))
    [record] = caplog.records
    assert record.name == "netkit_bpf.bpf.compiler"
    assert "unused variable 'unused'" in record.getMessage()


def test_a_missing_compiler_is_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CLANG", raising=False)
    with pytest.raises(FileNotFoundError, match="there is no clang: install the package clang, or set CLANG"):
        BPFObject.compile(EIGHT_LINES)
    monkeypatch.setenv("CLANG", "clang-99")
    with pytest.raises(FileNotFoundError, match="there is no clang-99, the value of the environment variable CLANG"):
        BPFObject.compile(EIGHT_LINES)


@needs_clang
def test_the_environment_names_the_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clang = shutil.which("clang")
    assert clang is not None
    (tmp_path / "mine").write_text(f'#!/bin/sh\necho used >&2\nexec {clang} "$@"\n')
    (tmp_path / "mine").chmod(0o755)
    monkeypatch.setenv("CLANG", str(tmp_path / "mine"))
    with pytest.raises(CompileError, match=r"^used\n"):
        BPFObject.compile("!")


@pytest.mark.parametrize(
    ("source", "cflags", "text"),
    [
        (b"int x;", (), r"source must be a str, not bytes: BPFObject.open\(\) takes what is compiled already"),
        ("int x;", "-O2", "cflags must be a sequence of arguments, not a str"),
        ("int x;", (1,), "cflags must be a str, not int"),
    ],
)
def test_wrong_arguments_are_refused(source: object, cflags: object, text: str) -> None:
    with pytest.raises(TypeError, match=text):
        BPFObject.compile(source, cflags=cflags)  # type: ignore[arg-type]


@needs_clang
def test_it_works_from_anywhere(tmp_path: Path) -> None:
    """In a directory with nothing else, in a process whose environment says nothing but where programs are."""
    code = f"import netkit_bpf as nk\nprint(list(nk.BPFObject.compile({EIGHT_LINES!r}).programs))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("['drop_all']\n", "")
