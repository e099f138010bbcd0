"""Options of tcpdump that cannot be here, and wrong ones: status 2 and the flag that does it here."""

from __future__ import annotations

import sys

import pytest

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
