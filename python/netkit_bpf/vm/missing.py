# SPDX-License-Identifier: MIT
"""What a virtual machine takes of this one, and the package to install where it is missing."""

from __future__ import annotations

import os
import platform
import shutil
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


def advice(name: str) -> str:
    """Say that a program is missing, and how to install it."""
    return f"{name} is missing: apt-get install {PACKAGES[name]}"


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


def check() -> None:
    """Raise for the first thing that is missing."""
    if platform.machine() != "x86_64":
        raise MissingError(f"the guest shares this machine's files and is x86_64; this is {platform.machine()}")
    tool("qemu-system-x86_64")
    virtiofsd()
    busybox()
    if os.geteuid() and not shutil.which("sudo"):
        raise MissingError("a virtual machine's mounts need root: run as root, or install sudo")
