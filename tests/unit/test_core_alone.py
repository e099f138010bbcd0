"""The core is a C++ library of its own: it compiles, links and runs without Python."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_core_knows_no_python() -> None:
    floors = [path for path in ROOT.glob("src/*/**/*.?pp") if ROOT / "src" / "python" not in path.parents]
    assert len(floors) > 50
    for path in [*floors, *ROOT.glob("bpf/include/**/*.h")]:
        assert not re.search(r"#include.*(pybind11|Python\.h)", path.read_text()), path


def test_a_cpp_program_builds_on_it(tmp_path: Path) -> None:
    bin_, build = Path(sys.executable).parent, str(tmp_path)
    configure = [f"{bin_}/cmake", "-S", str(ROOT), "-B", build, "-G", "Ninja"]
    subprocess.run([*configure, f"-DCMAKE_MAKE_PROGRAM={bin_}/ninja"], check=True, capture_output=True)
    built = subprocess.run([f"{bin_}/cmake", "--build", build], check=True, capture_output=True, text=True)
    assert "warning:" not in built.stdout
    command = [f"{build}/monitor", f"{build}/monitor.bpf.o", "nk-no-such", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert re.match("load BPF object monitor: .*needs CAP_BPF|look up device nk-no-such: No such device", done.stderr)
