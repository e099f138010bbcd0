# SPDX-License-Identifier: MIT
"""Reading /proc: proc(5). Names there can be any bytes; os.fsdecode() decodes them."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class Mount(NamedTuple):
    """A line of /proc/self/mounts."""

    target: Path
    kind: str


def lines(*parts: str) -> list[str]:
    """The lines of a file in /proc. Only a newline ends one: names may contain the others of str.splitlines()."""
    return os.fsdecode(Path("/proc", *parts).read_bytes()).removesuffix("\n").split("\n")


def is_on_bpffs(path: Path) -> bool:
    """Whether a path is on a BPF file system, or would be if it were made."""
    path = path.absolute()
    there = next(each for each in (path, *path.parents) if each.exists())
    device = there.stat().st_dev
    for mount in mounts():
        with contextlib.suppress(OSError):  # it is out of reach
            if mount.kind == "bpf" and mount.target.stat().st_dev == device:
                return True
    return False


def mounts() -> Iterator[Mount]:
    """The mounts that this process sees. The kernel writes white space in a name as \\040 and the like."""
    for line in lines("self", "mounts"):
        _, target, kind, *_ = line.split(" ")
        plain = re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8)]), os.fsencode(target))
        yield Mount(Path(os.fsdecode(plain)), kind)
