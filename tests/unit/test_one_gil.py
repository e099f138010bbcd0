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
