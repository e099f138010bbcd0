"""The configuration of cibuildwheel makes a wheel for each Python, machine and C library that is promised."""

from __future__ import annotations

import subprocess
import sys
from itertools import product
from pathlib import Path

from elsewhere import need

ROOT = Path(__file__).parents[2]
PYTHONS = ("cp310", "cp311", "cp312", "cp313", "cp314", "cp314t", "cp315")


def test_these_wheels_are_published() -> None:
    need("cibuildwheel")
    command = [sys.executable, "-m", "cibuildwheel", "--print-build-identifiers", "--platform", "linux", str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    expected = product(PYTHONS, ("manylinux", "musllinux"), ("x86_64", "aarch64"))
    assert sorted(done.stdout.split()) == sorted(f"{python}-{libc}_{machine}" for python, libc, machine in expected)
