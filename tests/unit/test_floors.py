"""The lint of the floors sees what it is there for: each fault is built into a small house, and must be found."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

FILE = Path(__file__).parents[2] / "tools" / "floors.py"
PACKAGE = '__all__ = ["Monitor", "Program"]\n'


@pytest.fixture(scope="module")
def floors() -> ModuleType:
    spec = importlib.util.spec_from_file_location("floors", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def house(root: Path, files: dict[str, str]) -> Path:
    """A house without a fault, and the files that change that."""
    sound = {
        "python/netkit_bpf/__init__.py": PACKAGE,
        "python/netkit_bpf/_core.pyi": "",
        "python/netkit_bpf/enums.py": "from netkit_bpf._core import Side",
        "python/netkit_bpf/errors.py": "",
        "python/netkit_bpf/bpf/__init__.py": "",
        "python/netkit_bpf/bpf/program.py": "from netkit_bpf._core import Program\nfrom netkit_bpf.bpf.map import Map",
        "python/netkit_bpf/bpf/map.py": "from netkit_bpf.enums import Side",
        "python/netkit_bpf/events/event.py": "from netkit_bpf.bpf.map import Map",
        "python/netkit_bpf/functions/monitor.py": "from netkit_bpf.bpf.program import Program",
        "python/netkit_bpf/command/doctor.py": "import netkit_bpf as nk",
        "python/pytest_netkit_bpf/__init__.py": "from netkit_bpf import Monitor",
        "src/base/error.hpp": "#include <string>",
        "src/bpf/map.hpp": '#include "base/error.hpp"',
        "src/ring/ring.hpp": '#include "base/error.hpp"',
        "src/devices/pair.cpp": '#include "devices/pair.hpp"',
        "src/devices/pair.hpp": '#include "bpf/map.hpp"',
        "src/python/map.cpp": "#include <pybind11/pybind11.h>",
    }
    for name, text in {**sound, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_this_house_has_no_fault_that_is_not_listed() -> None:
    done = subprocess.run([sys.executable, FILE], capture_output=True, text=True, check=False)
    assert done.stdout == ""
    assert done.returncode == 0


def test_a_sound_house_has_none(floors: ModuleType, tmp_path: Path) -> None:
    assert floors.faults(house(tmp_path, {})) == []


PROGRAM = "netkit_bpf.bpf.program -> netkit_bpf.events.event: upward"
MONITOR = "netkit_bpf.functions.monitor"
DOCTOR = "netkit_bpf.command.doctor"


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("bpf/program.py", "from netkit_bpf.events.event import Event", PROGRAM),
        ("bpf/program.py", "from netkit_bpf.events import event", PROGRAM),
        ("bpf/program.py", "from ..events import event", PROGRAM),
        ("bpf/program.py", "import netkit_bpf.events.event", PROGRAM),
        ("bpf/program.py", "if TYPE_CHECKING:\n    from netkit_bpf.events.event import Event", PROGRAM),
        ("bpf/program.py", "def late():\n    from netkit_bpf.events.event import Event", PROGRAM),
        ("bpf/program.py", "importlib.import_module('netkit_bpf.events.event')", PROGRAM),
        ("bpf/program.py", "from netkit_bpf import Monitor", "netkit_bpf.bpf.program -> netkit_bpf: upward"),
        ("enums.py", "from netkit_bpf.errors import X", "netkit_bpf.enums -> netkit_bpf.errors: upward"),
        ("attic/old.py", "", "netkit_bpf.attic.old: is on no floor"),
        (
            "bpf/map.py",
            "from netkit_bpf.bpf.program import Program",
            "netkit_bpf.bpf.map -> netkit_bpf.bpf.program -> netkit_bpf.bpf.map: a circle",
        ),
        (
            "functions/monitor.py",
            "from netkit_bpf.bpf.program import helper",
            f"{MONITOR} -> netkit_bpf.bpf.program helper: not public",
        ),
        ("functions/monitor.py", "from netkit_bpf._core import Map", f"{MONITOR} -> netkit_bpf._core Map: not public"),
        ("functions/monitor.py", "import netkit_bpf._core", f"{MONITOR} -> netkit_bpf._core: not public"),
        ("functions/monitor.py", "program._core.fileno()", f"{MONITOR}: uses the private program._core"),
        ("functions/monitor.py", "class M(P):\n  def f(self): self._g()", f"{MONITOR}: uses the private self._g"),
        ("command/doctor.py", "from netkit_bpf import _core", f"{DOCTOR} -> netkit_bpf._core: private"),
        (
            "command/doctor.py",
            "from netkit_bpf.bpf.map import _helper",
            f"{DOCTOR} -> netkit_bpf.bpf.map _helper: private",
        ),
        ("command/doctor.py", "nk.Map._open()", f"{DOCTOR}: uses the private nk.Map._open"),
    ],
)
def test_a_fault_in_python_is_found(floors: ModuleType, tmp_path: Path, name: str, text: str, fault: str) -> None:
    assert floors.faults(house(tmp_path, {f"python/netkit_bpf/{name}": text})) == [fault]


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("bpf/map.cpp", '#include "ring/ring.hpp"', "bpf/map -> ring/ring: upward"),
        ("ring/ring.cpp", '#include "devices/pair.hpp"', "ring/ring -> devices/pair: upward"),
        ("ring/ring.cpp", "#  include <devices/pair.hpp>", "ring/ring -> devices/pair: upward"),
        ("ring/ring.cpp", "#include <pybind11/pybind11.h>", "src/ring/ring.cpp: knows Python"),
        ("base/error.cpp", '#include "Python.h"', "src/base/error.cpp: knows Python"),
        ("attic/old.hpp", "", "attic/old: is on no floor"),
    ],
)
def test_a_fault_in_cpp_is_found(floors: ModuleType, tmp_path: Path, name: str, text: str, fault: str) -> None:
    assert floors.faults(house(tmp_path, {f"src/{name}": text})) == [fault]


def test_nouns_that_include_each_other_are_a_circle_by_way_of_their_sources_too(
    floors: ModuleType, tmp_path: Path
) -> None:
    files = {"src/bpf/pin.hpp": '#include "bpf/map.hpp"', "src/bpf/map.cpp": '#include "bpf/pin.hpp"'}
    assert floors.faults(house(tmp_path, files)) == ["bpf/map -> bpf/pin -> bpf/map: a circle"]


def test_a_folder_that_is_too_full_is_found(floors: ModuleType, tmp_path: Path) -> None:
    files = {f"python/netkit_bpf/bpf/noun{number}.py": "" for number in range(14)}
    assert floors.faults(house(tmp_path, files)) == ["python/netkit_bpf/bpf: holds 16 nouns, more than 15"]


def test_the_command_line_prints_the_pair_and_fails(tmp_path: Path) -> None:
    root = house(tmp_path, {"src/bpf/map.cpp": '#include "devices/pair.hpp"'})
    done = subprocess.run([sys.executable, FILE, root], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "bpf/map -> devices/pair: upward\n" in done.stdout
