"""Kernels that no archive has: built from Debian's source with a patch, once, into the user's cache.

"6.8-like" has netkit as Linux 6.8 has it, of which Ubuntu 24.04's kernel is, and says that it is 6.8. All else in it is
of 6.12, the verifier too.
"""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from netkit_bpf.vm import child, kernels
from netkit_bpf.vm.suite import Suite

HERE = Path(__file__).parent
NEEDED = {  # a program, and Debian's package of it
    "gcc": "gcc", "make": "make", "flex": "flex", "bison": "bison", "bc": "bc", "pahole": "pahole", "patch": "patch",
    "xz": "xz-utils",
}  # fmt: skip


class BuildError(child.ChildError):
    """The kernel cannot be built; the text says what to do."""


@dataclass(frozen=True)
class Recipe:
    """How to build one: its directory beside this file has `config`, added to tinyconfig, and the patches."""

    suite: str
    source: str  # Debian's package
    version: list[str]  # of the Makefile, which programs see as the kernel's release


RECIPES = {
    "6.8-like": Recipe(
        "trixie",
        "linux-source-6.12",
        ["VERSION=6", "PATCHLEVEL=8", "SUBLEVEL=0", "EXTRAVERSION=-like"],
    ),
}


def check_tools() -> None:
    """Name the packages that building takes and this machine lacks."""
    missing = [package for program, package in NEEDED.items() if not shutil.which(program)]
    if not Path("/usr/include/gelf.h").exists():
        missing.append("libelf-dev")
    if missing:
        raise BuildError(f"building a kernel takes more tools: apt-get install {' '.join(missing)}")


def get(name: str) -> Path:
    """The directory of the kernel in the cache, where it is built if it is absent."""
    return kernels.kept(name, lambda scratch: _make(name, scratch)).image.parent


def _make(name: str, scratch: Path) -> Path:
    check_tools()
    recipe = RECIPES[name]
    print(f"vm: building kernel {name} from Debian's {recipe.source}: once, for some minutes", file=sys.stderr)
    (deb,) = Suite(recipe.suite, scratch / recipe.suite).download([recipe.source], scratch)
    return build(name, deb, scratch)


def build(name: str, deb: Path, scratch: Path) -> Path:
    """Build the kernel from its source package, and return a directory with `vmlinuz`, `modules/` and `release`."""
    child.run("dpkg-deb", "--extract", str(deb), str(scratch / "source"))
    deb.unlink()
    (archive,) = (scratch / "source").glob("usr/src/linux-source-*.tar.xz")
    tree = scratch / "tree"
    tree.mkdir()
    child.run("tar", "--extract", f"--file={archive}", f"--directory={tree}", "--strip-components=1")
    archive.unlink()
    recipe = HERE / name
    for patch in sorted(recipe.glob("*.patch")):
        child.run("patch", "--strip=1", f"--input={patch}", cwd=tree)
    make = ["nice", "make", "--silent", f"--jobs={os.cpu_count() or 1}", *RECIPES[name].version]
    child.run(*make, "tinyconfig", cwd=tree)
    child.run("scripts/kconfig/merge_config.sh", "-m", ".config", str(recipe / "config"), cwd=tree)
    child.run(*make, "olddefconfig", cwd=tree)
    left_out = _left_out(recipe / "config", tree / ".config")
    if left_out:
        raise BuildError(f"this source has no {', '.join(left_out)}, or they need more: see {recipe / 'config'}")
    child.run(*make, "bzImage", cwd=tree)
    entry = scratch / "entry"
    (entry / "modules").mkdir(parents=True)  # everything is built in
    (tree / "arch/x86/boot/bzImage").rename(entry / "vmlinuz")
    release = child.run(*make, "kernelrelease", cwd=tree)
    (entry / "release").write_text(release)
    return entry


def _left_out(asked: Path, taken: Path) -> list[str]:
    """The options that kconfig dropped because of what they depend on."""
    lines = set(taken.read_text().splitlines())
    return [line for line in asked.read_text().splitlines() if line.endswith("=y") and line not in lines]
