"""An import that fails says where, why, and what to do; each failure is a real one, of a copy of the package."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

import netkit_bpf as nk
import netkit_bpf_command
from elsewhere import need
from netkit_bpf import import_failure

SUFFIX = EXTENSION_SUFFIXES[0]
PACKAGE = Path(str(nk.__file__)).parent


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The package without its extension module."""
    made = tmp_path / "netkit_bpf"
    shutil.copytree(PACKAGE, made, ignore=shutil.ignore_patterns("*.so", "*.o", "include", "__pycache__"))
    return made


def message(copy: Path) -> str:
    """What importing it says, on the last line."""
    code = f"import sys; sys.path.insert(0, {str(copy.parent)!r}); import netkit_bpf"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    said = done.stderr.splitlines()[-1]
    version = ".".join(map(str, sys.version_info[:3]))
    assert said.startswith(f"ImportError: netkit_bpf's extension module does not load in Python {version}")
    assert f"({sys.executable}) on Linux " in said
    return said.split(": ", 2)[2]


def library(path: Path, name: str, function: str, version: str) -> None:
    """A library with one function of a version."""
    need("cc")
    path.parent.mkdir(exist_ok=True)
    script = path.with_suffix(".map")
    script.write_text(f"{version} {{ global: {function}; }};")
    command = [
        "cc",
        "-shared",
        "-fPIC",
        "-xc",
        "-",
        "-o",
        str(path),
        f"-Wl,-soname,{name}",
        f"-Wl,--version-script={script}",
    ]
    subprocess.run(command, input=f"void {function}(void) {{}}", text=True, check=True)


def extension(path: Path, linked: Path, function: str, *, run_path: Path | None = None) -> None:
    """An extension module that calls a function of a library, which is looked for in `run_path` too."""
    need("cc")
    command = ["cc", "-shared", "-fPIC", "-xc", "-", "-o", str(path), "-xnone", str(linked)]
    if run_path:
        command.append(f"-Wl,-rpath,{run_path}")
    code = f"void {function}(void); void *PyInit__core(void) {{ {function}(); return 0; }}"
    subprocess.run(command, input=code, text=True, check=True)


def test_without_the_module(copy: Path) -> None:
    said = message(copy)
    assert said.startswith(f"there is none in {copy}. To mend it, install netkit-bpf with this interpreter: ")
    assert said.endswith(f"{sys.executable} -m pip install netkit-bpf, or pip install . in a clone")


@pytest.mark.parametrize("words", [["doctor"], ["doctor", "--json"]])
def test_the_command_says_it_without_a_traceback(copy: Path, words: list[str]) -> None:
    shutil.copytree(Path(netkit_bpf_command.__file__).parent, copy.parent / "netkit_bpf_command")
    code = (
        f"import sys; sys.path.insert(0, {str(copy.parent)!r}); from netkit_bpf_command import main; sys.exit(main())"
    )
    command = [sys.executable, "-I", "-S", "-c", code, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    (said,) = done.stderr.splitlines()
    assert said.startswith("netkit-bpf: netkit_bpf's extension module does not load in Python ")
    assert done.returncode == 1
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert told == [{"type": "error", "message": said.removeprefix("netkit-bpf: "), "status": 1}][: len(words) - 1]


def test_with_a_python_that_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 9, 18))
    said = import_failure.explain(ImportError("cannot import name '_core'", name="netkit_bpf"), [])
    assert said.endswith(": it needs Python 3.10 or later")


def test_with_a_module_for_another_python(copy: Path) -> None:
    other = "_core.cpython-39-x86_64-linux-gnu.so"
    shutil.copy(nk._core.__file__, copy / other)
    said = message(copy)
    assert said.startswith(
        f"what is there is for another Python or machine, {other}, and this one takes _core{SUFFIX}. "
    )
    assert f"{sys.executable} -m pip install" in said


def test_with_a_module_that_another_python_was_given(copy: Path) -> None:
    """As if it had been renamed: the symbols of its Python are not there."""
    need("cc")
    code = "extern void PyNoSuch_Function(void); void *PyInit__core(void) { PyNoSuch_Function(); return 0; }"
    path = copy / f"_core{SUFFIX}"
    subprocess.run(["cc", "-shared", "-fPIC", "-Wl,-z,now", "-xc", "-", "-o", path], input=code, text=True, check=True)
    said = message(copy)
    assert "undefined symbol: PyNoSuch_Function. To mend it, install netkit-bpf with this interpreter" in said


def test_without_a_library(copy: Path, tmp_path: Path) -> None:
    for name, cure in {
        "libbpf.so.1": "install libbpf 1.3 or later (the package libbpf1",
        "libnl-3.so.200": "install libnl-3 (the package libnl-3-200",
        "libother.so.9": "install the library, or a wheel that has it",
    }.items():
        linked = tmp_path / "new" / name
        library(linked, "absent-" + name, "of_a_test", "NEW_1")
        extension(copy / f"_core{SUFFIX}", linked, "of_a_test")
        assert (
            f"absent-{name}: cannot open shared object file: No such file or directory. To mend it, {cure}"
            in message(copy)
        )


@pytest.mark.parametrize(
    ("name", "old", "new", "cure"),
    [
        ("libbpf.so.1", "LIBBPF_1.1.0", "LIBBPF_1.3.0", "this libbpf is older than 1.3, the first that knows netkit"),
        ("libm.so.6", "GLIBC_2.2.5", "GLIBC_2.99", "this system's C or C++ library is older than the one"),
    ],
)
def test_with_an_old_library(copy: Path, tmp_path: Path, name: str, old: str, new: str, cure: str) -> None:
    library(tmp_path / "new" / name, name, "of_a_test", new)
    library(tmp_path / "old" / name, name, "of_a_test", old)
    extension(copy / f"_core{SUFFIX}", tmp_path / "new" / name, "of_a_test", run_path=tmp_path / "old")
    said = message(copy)
    assert f"version `{new}' not found (required by {copy}/_core{SUFFIX}). To mend it, {cure}" in said


def test_with_a_module_for_another_machine(copy: Path) -> None:
    (copy / f"_core{SUFFIX}").write_bytes(b"\x7fELF\x01" + bytes(64))
    said = message(copy)
    assert f"{copy}/_core{SUFFIX}" in said
    assert "it was built for another machine: install netkit-bpf with this interpreter" in said


def test_a_copy_that_is_whole_loads(copy: Path) -> None:
    shutil.copy(nk._core.__file__, copy)
    code = f"import sys; sys.path.insert(0, {str(copy.parent)!r}); import netkit_bpf; print(netkit_bpf.__file__)"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False)
    if done.returncode == 0:  # not if its libraries lie beside the package, where a wheel has them
        assert done.stdout.strip() == str(copy / "__init__.py")
    else:
        assert "cannot open shared object file" in done.stderr
