"""The bindings let go of the GIL and take it back in one place: what does so elsewhere crashes at exit."""

from __future__ import annotations

import re
from pathlib import Path

BINDINGS = Path(__file__).parents[2] / "src" / "python"
# What asks for the GIL, or runs Python code, and may so be where the interpreter's exit ends the thread.
RISKY = re.compile(
    r"gil_scoped|gil_safe_call_once|PyEval_(SaveThread|RestoreThread)|Py_(BEGIN|END)_ALLOW_THREADS|PyGILState|"
    r"__forced_unwind|module_::import"
)
CALLS = re.compile(r"(?<!return )\b(PyErr_CheckSignals|PyErr_WarnEx|PyObject_Call\w*|PyImport_\w+)\(")


def test_only_one_file_of_the_bindings_takes_the_gil() -> None:
    sources = [path for path in BINDINGS.rglob("*.?pp") if path.stem != "gil"]
    assert len(sources) > 15
    for path in sources:
        found = [line for line in path.read_text().splitlines() if RISKY.search(line) or CALLS.search(line)]
        assert found == [], path


def test_no_factory_runs_under_a_guard() -> None:
    """Else pybind11 enters what it returns into its table of instances without the GIL: see without_gil()."""
    guarded = re.compile(r"\.def\(py::init\((?:[^;](?!\.def))*?no_gil\(\)", re.DOTALL)
    assert guarded.search('.def(py::init(&make), py::arg("a"),\n  no_gil())')
    factories = 0
    for path in BINDINGS.rglob("*.cpp"):
        text = path.read_text()
        factories += text.count("py::init(")
        assert guarded.search(text) is None, path
    assert factories > 5
