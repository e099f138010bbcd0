"""BPF objects that are refused: by libbpf, by the verifier, by the kernel."""

from __future__ import annotations

import pickle
import platform
import subprocess
from pathlib import Path

import pytest

from netkit_bpf import VerifierError, _core

SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
char LICENSE[] SEC("license") = "GPL";
SEC("netkit/primary") int reads_past_the_end(struct __sk_buff *skb)
{
	return *(volatile int *)(long)skb->data_end;
}
"""


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A program that no verifier accepts."""
    directory = tmp_path_factory.mktemp("bpf")
    (directory / "bad.c").write_text(SOURCE)
    include = f"/usr/include/{platform.machine()}-linux-gnu"
    options = ["-target", "bpf", "-O2", "-g", "-idirafter", include]
    subprocess.run(["clang", *options, "-c", "bad.c", "-o", "bad.o"], cwd=directory, check=True)
    return (directory / "bad.o").read_bytes()


def test_a_verifier_refusal_carries_program_reason_and_log(refused: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    program = _core.Object(refused, "bad")
    with pytest.raises(VerifierError) as caught:
        program.load()
    error = caught.value
    text = str(error)
    assert "load program 'reads_past_the_end'" in text
    assert "invalid mem access" in text.splitlines()[-1]  # the last lines that matter
    assert len(text.splitlines()) < 8
    assert "BEGIN PROG LOAD LOG" in error.log
    assert "reads_past_the_end" in error.log
    assert capfd.readouterr() == ("", "")  # nothing is printed
    again = pickle.loads(pickle.dumps(error))
    assert (again.errno, again.log) == (error.errno, error.log)


@pytest.mark.parametrize("image", [b"", b"not an object", b"\x7fELF" + bytes(100)], ids=["empty", "text", "cut"])
def test_what_is_no_object_is_refused(image: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(OSError, match="open BPF object junk"):
        _core.Object(image, "junk")
    assert capfd.readouterr() == ("", "")


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
