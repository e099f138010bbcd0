"""netkit-bpf prog load, and what it and its siblings refuse before anything is attached."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from elsewhere import needs_clang
from netkit_bpf import Map, Program
from netkit_bpf.command import main

Command = Callable[..., str]
SOURCE = """
#include <netkit.h>
#include "verdict.h"
const volatile __u16 longest = 1000;
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} total SEC(".maps");
SEC("netkit/peer") int drop_long(struct __sk_buff *skb)
{
	__u32 key = 0;
	__u64 *count = bpf_map_lookup_elem(&total, &key);

	if (count)
		__sync_fetch_and_add(count, 1);
	return skb->len > longest ? TOO_LONG : NETKIT_NEXT;
}
SEC("netkit/primary") int another(struct __sk_buff *skb) { return NETKIT_NEXT; }
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Beside the BPF file system that is mounted on it."""
    folder = tmp_path.parent / f"{tmp_path.name}-source"
    folder.mkdir()
    (folder / "verdict.h").write_text("#define TOO_LONG NETKIT_DROP\n")
    (folder / "long.bpf.c").write_text(SOURCE)
    return folder / "long.bpf.c"


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    def run(*words: object, status: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["netkit-bpf", "prog", *map(str, words)])
        try:
            found = main()
        except SystemExit as left:
            found = left.code  # type: ignore[assignment]
        written = capsys.readouterr()
        assert found == status, written.err
        return written.err

    return run


@needs_clang
def test_a_source_is_compiled_configured_loaded_and_pinned(command: Command, bpffs: Path, source: Path) -> None:
    said = command("load", source, bpffs / "mine", "--set", "longest=0x64", "--pinmaps", bpffs / "maps")
    program = Program.open_pinned(bpffs / "mine" / "drop_long")
    assert said.splitlines()[0] == (
        f"netkit-bpf: program drop_long is loaded as {program.id}, pinned at {bpffs}/mine/drop_long"
    )
    verdicts = [str(program.test_run(bytes(size)).verdict) for size in (100, 101)]
    assert verdicts == ["next", "drop"]
    with Map.open_pinned(bpffs / "maps" / "total") as total:
        assert total[0] == 2
    assert sorted(path.name for path in (bpffs / "mine").iterdir()) == ["another", "drop_long"]
    again = command("load", source, bpffs / "mine", status=1)
    assert again.startswith(f"netkit-bpf: pin program 'drop_long' at {bpffs}/mine/drop_long: File exists")
    assert sorted(path.name for path in (bpffs / "mine").iterdir()) == ["another", "drop_long"]
    program.close()


def test_a_failure_leaves_nothing_pinned(command: Command, bpffs: Path, source: Path) -> None:
    (bpffs / "mine").mkdir()
    with Map.create("array", key_size=4, value_size=4, max_entries=1) as other:
        other.pin(bpffs / "mine" / "another")  # the second of two names
    command("load", source, bpffs / "mine", "--pinmaps", bpffs / "deep" / "maps", status=1)
    assert [path.name for path in (bpffs / "mine").iterdir()] == ["another"]
    assert not (bpffs / "deep").exists()


@needs_clang
def test_refusals_name_the_file_and_what_there_is(command: Command, bpffs: Path, source: Path) -> None:
    broken = source.with_name("broken.bpf.c")
    broken.write_text("int x = ;\n")
    text = source.with_name("text.bpf.o")
    text.write_text("no object")
    for line, said in {
        f"load {source} {source.parent}/out": "pin program 'drop_long' at ",
        f"load {source.parent}/none.bpf.o {bpffs}/x": f"{source.parent}/none.bpf.o: No such file or directory",
        f"load {text} {bpffs}/x": f"{text}: ",
        f"load {source} {bpffs}/x --set shortest=1": f"{source} has no variable shortest: there is longest",
        f"load {source} {bpffs}/x --set longest=65536": "--set: variable 'longest' must be 0 to 65535",
    }.items():
        assert command(*line.split(), status=1).startswith(f"netkit-bpf: {said}"), line
    assert "expected expression" in command("load", broken, bpffs / "x", status=1)
    assert "must be NAME=VALUE" in command("load", source, bpffs / "x", "--set", "longest", status=2)
    assert "invalid choice" in command("attach", "nk0", "left", source, status=2)
    assert "not allowed with" in command("attach", "nk0", "peer", source, "--before", "all", "--replace", status=2)
    assert "there is no device nk0 in this network namespace" in command("attach", "nk0", "peer", source, status=1)
    assert [path.name for path in bpffs.iterdir() if path.suffix != ".debug"] == []
    assert not (source.parent / "out").exists()
