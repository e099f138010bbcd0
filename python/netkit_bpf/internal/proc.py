# SPDX-License-Identifier: MIT
"""What /proc tells: proc(5). Names in it are bytes of any kind, and come as those of os.fsdecode()."""

from __future__ import annotations

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
    """The lines of a file in /proc. Only a newline ends one: what else str.splitlines() knows may be in a name."""
    return os.fsdecode(Path("/proc", *parts).read_bytes()).removesuffix("\n").split("\n")


def mounts() -> Iterator[Mount]:
    """The mounts that this process sees. The kernel writes what would end a word as \\040."""
    for line in lines("self", "mounts"):
        _, target, kind, *_ = line.split(" ")
        plain = re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8)]), os.fsencode(target))
        yield Mount(Path(os.fsdecode(plain)), kind)
