"""What must work for anybody, anywhere."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from importlib.resources import files
from pathlib import Path
from typing import get_origin

import netkit_bpf as nk
from elsewhere import need


def test_import_asks_nothing_of_the_kernel() -> None:
    """Neither a socket nor a BPF call nor a namespace file."""
    need("strace")
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


def test_a_sub_interpreter_is_refused_at_once() -> None:
    """Loading pybind11's module there waits for ever before Python 3.12."""
    code = """
import sys
interpreters = __import__("_interpreters" if sys.version_info >= (3, 13) else "_xxsubinterpreters")
inside = "try: import netkit_bpf\\nexcept ImportError as error: print(error)"
interpreters.run_string(interpreters.create(), inside)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert "this is a sub-interpreter" in done.stdout


def test_what_is_offered_is_what_is_public() -> None:
    """In IPython too, which looks into the module by itself: neither modules nor what they import."""
    assert dir(nk) == sorted(nk.__all__)
    need("ipython")
    code = """
import os, sys, tempfile
os.environ["IPYTHONDIR"] = tempfile.mkdtemp()
from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.run_cell("import netkit_bpf as nk")
with provisionalcompleter():
    print(*sorted(each.text for each in shell.Completer.completions("nk.", 3)))
    print(*sorted(each.text for each in shell.Completer.completions("nk.mon", 6)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [" ".join(sorted(nk.__all__)), ""]


def test_a_python_without_gil_stays_one() -> None:
    """An extension that does not say that it can do without has Python turn the GIL on, and warn."""
    code = "import sys, netkit_bpf; print(getattr(sys, '_is_gil_enabled', lambda: True)())"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHON_GIL"}
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == str(not sysconfig.get_config_var("Py_GIL_DISABLED"))


def test_everything_public_has_a_docstring() -> None:
    for name in nk.__all__:
        noun = getattr(nk, name)
        if get_origin(noun):
            continue  # an alias of types, for annotations
        assert noun.__doc__, name
        for attribute in vars(noun):
            if not attribute.startswith("_") and callable(getattr(noun, attribute)):
                assert getattr(noun, attribute).__doc__, f"{name}.{attribute}"


def test_the_package_is_typed_and_ships_its_programs() -> None:
    assert files("netkit_bpf").joinpath("py.typed").is_file()
    assert Path(nk._core.__file__).with_name("monitor.bpf.o").is_file()
