# SPDX-License-Identifier: MIT
"""The modules of a kernel: those that the initrd loads, and the index by which the guest loads any other."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from netkit_bpf.vm import child, missing


def unpacked(path: Path) -> bytes:
    """Return a module's content, whatever it is compressed with: insmod of busybox loads plain ones only."""
    tool = {".xz": "xz", ".zst": "zstd"}.get(path.suffix)
    content = path.read_bytes()
    if tool is None:
        return content
    if tool == "xz":
        with contextlib.suppress(ImportError):  # a Python built by hand may lack it
            import lzma

            return lzma.decompress(content)
    if not shutil.which(tool):
        raise missing.MissingError(missing.advice(tool))
    return subprocess.run([tool, "-dc"], input=content, stdout=subprocess.PIPE, check=True).stdout


def with_needs(tree: Path | None, wanted: Sequence[str]) -> dict[str, bytes]:
    """The wanted modules and what they need, each after what it needs. Those that are absent are built in.

    Debian's packages hold no modules.dep, which is made at installation: each module names its own needs.
    """
    paths = tree.rglob("*.ko*") if tree else ()
    files = {path.name.partition(".")[0].replace("-", "_"): path for path in paths}
    ordered: dict[str, bytes] = {}

    def add(name: str) -> None:
        if name in ordered or name not in files:
            return
        content = unpacked(files[name])
        found = re.search(rb"\0depends=([^\0]*)\0", content)
        for needed in found.group(1).decode().split(",") if found else []:
            add(needed.replace("-", "_"))
        ordered[name] = content

    for name in wanted:
        add(name.replace("-", "_"))
    return ordered


def check(tree: Path | None, wanted: Sequence[str]) -> None:
    """Refuse a wanted module that the kernel neither has nor has built in, as far as it says what is."""
    if tree is None or not (tree / "modules.builtin").exists():
        return
    paths = [*tree.rglob("*.ko*"), *map(Path, (tree / "modules.builtin").read_text().split())]
    names = {path.name.partition(".")[0].replace("-", "_") for path in paths}
    for name in wanted:
        if name.replace("-", "_") not in names:
            raise missing.MissingError(f"--module {name}: this kernel has no such module")


def index(tree: Path, release: str) -> None:
    """Write modules.dep and modules.alias, which modprobe(8) reads, into the directory of a kernel's modules."""
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch, "lib/modules", release)
        place.parent.mkdir(parents=True)
        place.symlink_to(tree.resolve())
        child.run(str(missing.busybox()), "depmod", "-b", scratch, release)
