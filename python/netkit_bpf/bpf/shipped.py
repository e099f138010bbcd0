# SPDX-License-Identifier: MIT
"""The programs that ship with this package, compiled."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from netkit_bpf import _core


@cache
def program_file(name: str) -> Path:
    """Return the object file of bpf/NAME.bpf.c, for `BPFObject.open`."""
    return Path(_core.__file__).with_name(f"{name}.bpf.o")
