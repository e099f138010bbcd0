"""Options of tcpdump that cannot be here, and wrong ones: status 2 and the flag that does it here."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from conversation import frames, pcap
from netkit_bpf.command import main

REFUSED = {
    "-i nk0 -I": "802.11",
    "-i nk0 -z gzip -G 60 -w x": "run the command over the files",
    "-i nk0 -T rpc": "tshark",
    "-i nk0 -d tcp": "tcpdump -d",
    "-i nk0 -j adapter": "--nano",
    "-i nk0 -J": "--nano",
    "-i nk0 -E secret": "tshark",
    "-i nk0 -L": "EN10MB",
    "-i nk0 -y RAW": "EN10MB",
    "-V files": "-r FILE",
    "-i nk0 -C 1": "-w",
    "-i nk0 -G 60 -w -": "-C and -G",
    "-i nk0 -w - --print": "standard output",
    "-i nk0 -r FILE": "pairs or from a file",
    "-i nk0 -s x": "0 to 262144",
    "-i nk0 -Q up": "in",
    "-r FILE --netns red": "--netns is about pairs",
    "-r FILE --redirected": "--redirected is about pairs",
    "-r FILE --keep-first": "--keep-first is about pairs",
    "-r FILE -B 4": "-B is about pairs",
    "-r FILE --duration 1": "--duration is about pairs",
    "-r FILE --count tcp": "-c N ends after N packets",
    "-i any -i nosuch": "-i any is all pairs",
    "-i any -Z nobody": "with privileges",
    "-i nk0 --dura 1": "unrecognized arguments: --dura",
    "-i nk0 --frobnicate": "unrecognized arguments: --frobnicate",
}


@pytest.mark.parametrize("subcommand", ["capture", "monitor"])
@pytest.mark.parametrize("line", REFUSED)
def test_what_is_not_done_here_is_refused_with_what_does_it(
    line: str, subcommand: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["netkit-bpf", subcommand, *line.split()])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(f"netkit-bpf {subcommand}: error: ")
    assert REFUSED[line] in said


def test_the_file_that_is_read_is_not_overwritten(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    content = pcap(list(frames().values()))
    (tmp_path / "x").write_bytes(content)
    (tmp_path / "symbolic").symlink_to("x")
    (tmp_path / "hard").hardlink_to(tmp_path / "x")
    with (tmp_path / "x").open("r+b") as file:
        standard = SimpleNamespace(fileno=file.fileno)
        monkeypatch.setattr(sys, "stdin", standard)
        for read, written in (("x", "x"), ("x", "symbolic"), ("hard", "x"), ("-", "x")):
            read, written = ("-" if name == "-" else f"{tmp_path}/{name}" for name in (read, written))
            monkeypatch.setattr(sys, "argv", ["netkit-bpf", "capture", "-r", read, "-w", written])
            with pytest.raises(SystemExit) as caught:
                main()
            assert caught.value.code == 2
            assert f"-w {written} would overwrite what -r reads" in capsys.readouterr().err
    assert (tmp_path / "x").read_bytes() == content
