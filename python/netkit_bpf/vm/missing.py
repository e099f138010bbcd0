# SPDX-License-Identifier: MIT
"""What a virtual machine takes of this one, and the package to install where it is missing."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable
from pathlib import Path

VIRTIOFSD = [Path("/usr/libexec/virtiofsd"), Path("/usr/lib/qemu/virtiofsd"), Path("/usr/lib/virtiofsd")]
BUSYBOX = [Path("/bin/busybox"), Path("/usr/bin/busybox"), Path("/usr/bin/busybox.static")]
PACKAGES = {  # Debian's and Ubuntu's
    "qemu-system-x86_64": "qemu-system-x86",
    "virtiofsd": "virtiofsd",  # Debian 12 has it in qemu-system-common, which comes with QEMU
    "a busybox that needs no libraries": "busybox-static",
    "xz": "xz-utils",
    "zstd": "zstd",
    "sudo": "sudo",
}


class MissingError(Exception):
    """This machine lacks something; the text names it and the package."""


def advice(*names: str) -> str:
    """Say that programs are missing, and how to install them."""
    said = f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'} missing"
    return f"{said}: apt-get install {' '.join(PACKAGES[name] for name in names)}"


def tool(name: str) -> str:
    """Find a program, also in a directory that only root has on PATH."""
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin:/usr/bin:/bin")
    if not found:
        raise MissingError(advice(name))
    return found


def virtiofsd() -> Path:
    """Find the file server, which stands in no directory of PATH."""
    for path in VIRTIOFSD:
        if path.exists():
            return path
    raise MissingError(advice("virtiofsd"))


def busybox() -> Path:
    """Find the static one: the other package's needs libraries, which an initrd lacks."""
    for path in BUSYBOX:
        if path.exists() and b"/ld-linux" not in path.read_bytes()[:4096]:
            return path
    raise MissingError(advice("a busybox that needs no libraries"))


_PROGRAMS: dict[str, Callable[[], object]] = {
    "qemu-system-x86_64": lambda: tool("qemu-system-x86_64"),
    "virtiofsd": virtiofsd,
    "a busybox that needs no libraries": busybox,
}


def _is_missing(find: Callable[[], object]) -> bool:
    try:
        find()
    except MissingError:
        return True
    return False


def check() -> None:
    """Raise for what is missing; of programs, all are named at once."""
    if platform.machine() != "x86_64":
        raise MissingError(f"the guest shares this machine's files and is x86_64; this is {platform.machine()}")
    lacking = [name for name, find in _PROGRAMS.items() if _is_missing(find)]
    if "qemu-system-x86_64" in lacking and "virtiofsd" in lacking:
        lacking.remove("virtiofsd")  # it may come with QEMU, and then has no package of its own
    if lacking:
        raise MissingError(advice(*lacking))
    if os.geteuid() and not shutil.which("sudo"):
        raise MissingError("a virtual machine's mounts need root: run as root, or install sudo")
