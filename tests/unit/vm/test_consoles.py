"""The consoles of failed runs: the newest are kept, and nothing else is touched."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from netkit_bpf.vm.runner import CONSOLES, sweep


def test_old_ones_go_but_those_of_runs_that_go_on_and_what_is_not_ours(tmp_path: Path) -> None:
    used, newest = tmp_path / "7.2.1-100.log", tmp_path / "7.2.1-102.log.boot1"
    old = [tmp_path / "7.2.1-101.log", tmp_path / "7.2.1-101.log.boot1"]
    others = [tmp_path / "notes", tmp_path / "7.2.1.log", tmp_path / "7.2.1-101.log.gz"]
    for age, path in enumerate([newest, *(tmp_path / f"7.2.2-{number}.log" for number in range(CONSOLES - 1)), *old]):
        path.touch()
        os.utime(path, (1e9 - age, 1e9 - age))
    for path in others:
        path.touch()
        os.utime(path, (0, 0))
    (tmp_path / "7.2.1-103.log").mkdir()
    child = "import pathlib, sys; from netkit_bpf.vm import runner; runner.claim(pathlib.Path(sys.argv[1])); "
    child += "print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", child, used], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as run:
        assert run.stdout
        run.stdout.readline()
        os.utime(used, (0, 0))
        sweep(tmp_path)
        assert used.exists()
        assert newest.exists()
        assert len([*tmp_path.glob("7.2.2-*")]) == CONSOLES - 1
        assert not any(path.exists() for path in old)
        assert all(path.exists() for path in others)
        run.communicate(b"\n")
    sweep(tmp_path)
    assert not used.exists()  # its run has ended
