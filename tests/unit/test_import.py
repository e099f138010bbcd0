"""What must work for anybody, anywhere."""

from __future__ import annotations

import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import netkit_bpf as nk


def test_import_asks_nothing_of_the_kernel() -> None:
    """Neither a socket nor a BPF call nor a namespace file."""
    calls = "trace=bpf,socket,setns,unshare,mount,clone,clone3"
    done = subprocess.run(
        ["strace", "-f", "-e", calls, sys.executable, "-c", "import netkit_bpf"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert [line for line in done.stderr.splitlines() if not line.startswith("+++ exited")] == []


def test_import_brings_along_nothing_that_takes_long() -> None:
    code = "import sys; before = set(sys.modules); import netkit_bpf; print(*set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    long = {"asyncio", "ctypes", "datetime", "json", "numpy", "socket", "subprocess", "tempfile", "threading"}
    assert set(done.stdout.split()) & long == set()


def test_everything_public_has_a_docstring() -> None:
    for name in nk.__all__:
        noun = getattr(nk, name)
        assert noun.__doc__, name
        for attribute in vars(noun):
            if not attribute.startswith("_") and callable(getattr(noun, attribute)):
                assert getattr(noun, attribute).__doc__, f"{name}.{attribute}"


def test_the_package_is_typed_and_ships_its_programs() -> None:
    assert files("netkit_bpf").joinpath("py.typed").is_file()
    assert Path(nk._core.__file__).with_name("monitor.bpf.o").is_file()
