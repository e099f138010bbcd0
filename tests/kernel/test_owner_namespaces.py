"""Whether a process has ended, asked from other PID and time namespaces."""

from __future__ import annotations

import subprocess
import sys

import pytest

from netkit_bpf.owner import Owner

ASK = "import sys; from netkit_bpf.owner import Owner; print(Owner.of(sys.argv[1]).has_ended())"
SAY = "from netkit_bpf.owner import Owner; print(Owner.current().alias)"


def unshared(options: list[str], program: str, *arguments: str) -> str:
    argv = ["unshare", *options, sys.executable, "-c", program, *arguments]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.rstrip()


@pytest.mark.parametrize(
    "options",
    [["--pid", "--fork", "--mount-proc"], ["--pid", "--fork"], ["--time", "--fork", "--boottime=1000"]],
    ids=["PID namespace", "PID namespace with the outer proc", "time namespace"],
)
def test_nobody_is_thought_dead_across_namespaces(options: list[str]) -> None:
    mine = Owner.current()
    assert unshared(options, ASK, mine.alias) == "False"
    theirs = Owner.of(unshared(options, SAY))
    assert theirs is not None
    assert theirs != mine
    assert not theirs.has_ended()  # it has, but its id and start mean nothing here


def test_inside_a_namespace_of_its_own_a_process_is_judged_as_elsewhere() -> None:
    judge = (
        "import subprocess, sys; from netkit_bpf.owner import Owner\n"
        f"done = subprocess.run([sys.executable, '-c', {SAY!r}], capture_output=True, text=True)\n"
        "print(Owner.current().has_ended(), Owner.of(done.stdout.rstrip()).has_ended())"
    )
    assert unshared(["--pid", "--fork", "--mount-proc"], judge) == "False True"
