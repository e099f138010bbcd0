"""The machine that the figures are of."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path


def describe() -> dict[str, str | int | float]:
    """Kernel, CPU, how many, and what else keeps them busy."""
    return {
        "kernel": platform.release(),
        "cpu": _cpu(),
        "cpus": os.cpu_count() or 1,
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
    }


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(": ")[1]
    return platform.machine()


def build_peers(directory: Path) -> None:
    """Compile the C peers and the BPF programs among them, and what reads by this package's core alone."""
    here = Path(__file__).parent
    peers = here / "peers"
    for name in ("consumer", "flood"):
        subprocess.run(["cc", "-O2", peers / f"{name}.c", "-o", directory / name, "-lbpf"], check=True)
    include = f"/usr/include/{platform.machine()}-linux-gnu"
    for name in ("empty", "seed", "rules", "redirect", "flows"):
        options: list[str | Path] = ["-target", "bpf", "-mcpu=v3", "-O2", "-g", "-idirafter", include]
        options += ["-I", here.parent / "bpf", "-I", here.parent / "bpf/include"]
        source = peers / f"{name}.bpf.c"
        subprocess.run(["clang", *options, "-c", source, "-o", directory / f"{name}.o"], check=True)
    tag = f"cp{sys.version_info.major}{sys.version_info.minor}"
    for core in here.parent.glob(f"build/{tag}-*/libnetkit_bpf_core.a"):  # none where the package is an installed one
        libraries = subprocess.run(
            ["pkg-config", "--cflags", "--libs", "libbpf", "libnl-3.0"], capture_output=True, text=True, check=True
        ).stdout.split()
        sources: list[str | Path] = [
            "-I",
            here.parent / "src",
            "-idirafter",
            here.parent / "bpf/include",
            here / "drain.cpp",
            core,
        ]
        subprocess.run(["c++", "-std=c++20", "-O2", *sources, *libraries, "-o", directory / "drain"], check=True)
