"""netkit-bpf completion: the scripts that shells take."""

from __future__ import annotations

import subprocess
import sys

import pytest

COMMAND = [sys.executable, "-m", "netkit_bpf", "completion"]
COMPLETE = """
source /dev/stdin
COMP_WORDS=(netkit-bpf {line}) COMP_CWORD={number}
_shtab_netkit_bpf
echo "${{COMPREPLY[@]}}"
"""


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("mon", "monitor"),
        ("pair cre", "create"),
        ("capture --relin", "--relinquish-privileges"),
        ("monitor -Q i", "in inout"),
        ("completion f", "fish"),
    ],
)
def test_bash_completes(line: str, expected: str) -> None:
    script = subprocess.run([*COMMAND, "bash"], capture_output=True, text=True, check=True).stdout
    asked = COMPLETE.format(line=line, number=len(line.split()))
    done = subprocess.run(["bash", "-c", asked], input=script, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == expected, done.stderr


@pytest.mark.parametrize(("shell", "mark"), [("zsh", "#compdef netkit-bpf\n"), ("fish", "complete -c netkit-bpf ")])
def test_other_shells_get_theirs(shell: str, mark: str) -> None:
    script = subprocess.run([*COMMAND, shell], capture_output=True, text=True, check=True).stdout
    assert mark in script
    assert "relinquish-privileges" in script
