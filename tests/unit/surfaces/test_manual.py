"""The manual page and the completion files, which the build makes of the command's parser and installs in share/."""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

SHARE = Path(sysconfig.get_path("data"), "share")


def page() -> str:
    """Its text, without the dashes' and fonts' escapes."""
    return re.sub(r"\\f[BIR]|\\,|\\/|\\", "", (SHARE / "man/man1/netkit-bpf.1").read_text())


def test_the_manual_page_has_every_subcommand_and_the_exit_status() -> None:
    told = subprocess.run([sys.executable, "-m", "netkit_bpf", "-h"], capture_output=True, text=True, check=True).stdout
    subcommands = re.findall(r"^    (\w+)(?: |$)", told, re.MULTILINE)
    assert {"monitor", "prog", "completion"} <= set(subcommands)
    text = page()
    assert [name for name in subcommands if f".SH COMMAND 'netkit-bpf {name}'" not in text] == []
    assert ".SH COMMAND 'netkit-bpf prog attach'" in text
    status = re.sub(r"\s+", " ", text.partition(".SH EXIT STATUS")[2])
    assert status.strip().startswith("0; 1 for an error; 2 for wrong usage; 130 for Ctrl-C")
    assert "Exit status: 0; 1 for an error" in told


@pytest.mark.parametrize(
    "name",
    [
        "bash-completion/completions/netkit-bpf",
        "zsh/site-functions/_netkit-bpf",
        "fish/vendor_completions.d/netkit-bpf.fish",
    ],
)
def test_shells_find_what_completes(name: str) -> None:
    assert "relinquish-privileges" in (SHARE / name).read_text()
