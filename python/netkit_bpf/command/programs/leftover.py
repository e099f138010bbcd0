# SPDX-License-Identifier: MIT
"""What prog attach and fw load --pin left on the BPF file system for pairs that are gone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from netkit_bpf.bpf.hook import Link
from netkit_bpf.functions.firewall_pins import FIREWALLS, FirewallPins

ROOT = FIREWALLS.parent
PROGRAMS = ROOT / "prog"


def leftovers(inode: int | None = None, *, remove: bool = False) -> Iterator[Path]:
    """Find the links that hold nothing any more and the firewalls that are not in force, and remove them if told to.

    Args:
        inode: of the namespace whose pairs they were for; by default any.
        remove: remove each before it is told.

    Raises:
        PermissionError: CAP_BPF is missing.
    """
    whose = "*" if inode is None else f"{inode}-*"
    for path in sorted(PROGRAMS.glob(f"{whose}/*/*")):
        with contextlib.suppress(FileNotFoundError, ValueError), Link.open_pinned(path) as link:
            if link.is_attached:
                continue
            if remove:
                link.unpin()
                remove_empty(path.parent)
            yield path
    for path in sorted(FIREWALLS.glob(whose)):
        with contextlib.suppress(FileNotFoundError):
            if FirewallPins(path).is_left_behind(remove=remove):
                yield path


def remove_empty(directory: Path) -> None:
    """Remove the directories that attach made, as far as nothing else is in them."""
    with contextlib.suppress(OSError):
        while directory != ROOT:
            directory.rmdir()
            directory = directory.parent
