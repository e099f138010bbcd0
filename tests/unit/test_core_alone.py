"""The core is a C++ library of its own: it compiles, links and runs without Python."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from elsewhere import need

ROOT = Path(__file__).parents[2]


def test_the_core_knows_no_python() -> None:
    floors = [path for path in ROOT.glob("src/*/**/*.?pp") if ROOT / "src" / "python" not in path.parents]
    assert len(floors) > 50
    for path in [*floors, *ROOT.glob("bpf/include/**/*.h")]:
        assert not re.search(r"#include.*(pybind11|Python\.h)", path.read_text()), path


def test_a_cpp_program_builds_on_it(tmp_path: Path) -> None:
    need("cc")
    bin_, build = Path(sys.executable).parent, str(tmp_path)
    configure = [f"{bin_}/cmake", "-S", str(ROOT), "-B", build, "-G", "Ninja"]
    subprocess.run([*configure, f"-DCMAKE_MAKE_PROGRAM={bin_}/ninja"], check=True, capture_output=True)
    # The core is the extension's own, which takes a minute to compile. The program is compiled and linked.
    tag = "cp{}{}".format(*sys.version_info)
    core = next(ROOT.glob(f"build/{tag}-*/libnetkit_bpf_core.a"), None)
    assert core is not None, f"there is no build/{tag}-*: tools/build makes it"
    shutil.copy(core, tmp_path)
    ninja = [f"{bin_}/ninja", "-C", build]
    listed = subprocess.run([*ninja, "-t", "commands", "monitor"], check=True, capture_output=True, text=True)
    programs = [command for command in listed.stdout.splitlines() if "examples/monitor.cpp.o" in command]
    assert len(programs) == 2  # compile it, link it
    for command in programs:
        built = subprocess.run(command, shell=True, cwd=build, check=True, capture_output=True, text=True)
        assert "warning:" not in built.stdout + built.stderr
    subprocess.run([*ninja, "monitor.bpf.o"], check=True, capture_output=True)
    show = [f"{build}/monitor", f"{build}/monitor.bpf.o", "nk-no-such", "1"]
    done = subprocess.run(show, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert re.match("load BPF object monitor: .*needs CAP_BPF|look up device nk-no-such: No such device", done.stderr)
