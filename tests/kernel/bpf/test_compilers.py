# SPDX-License-Identifier: MIT
"""The monitor's programs as each clang that is installed compiles them: a verifier sees what an optimizer has made."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from netkit_bpf.functions import monitor

BPF = Path(__file__).parents[3] / "bpf"
SOURCE = BPF / "monitor.bpf.c"
INCLUDE = BPF / "include"
FLAGS = ["-target", "bpf", "-mcpu=v3", "-O2", "-g", "-Wall", "-Wextra", "-Werror"]  # CMakeLists.txt
CLANGS = ["clang", *(f"clang-{version}" for version in range(14, 30))]


def test_every_clang_makes_programs_that_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {os.path.realpath(path): path for clang in CLANGS if (path := shutil.which(clang))}  # not by it: ccache's
    assert found
    multiarch = f"/usr/include/{os.uname().machine}-linux-gnu"
    for clang in sorted(found.values()):
        made = tmp_path / f"{Path(clang).name}.o"
        subprocess.run([clang, *FLAGS, "-I", INCLUDE, "-idirafter", multiarch, "-c", SOURCE, "-o", made], check=True)
        monkeypatch.setattr(monitor, "program_file", lambda _, made=made: made)
        for snaplen in (0, 128, 262144):
            monitor.load_programs(0, 4096, None, snaplen).close()
            monitor.load_programs(0, 4096, None, snaplen, rings="percpu").close()
            monitor.load_programs(0, 4096, None, snaplen, rings="ordered").close()
