# SPDX-License-Identifier: MIT
"""Who keeps links: processes by their descriptors (fdinfo in proc(5)), and names on BPF file systems."""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from netkit_bpf.bpf.hook import Link
from netkit_bpf.internal import proc


class LinkHolder(NamedTuple):
    """What keeps a link: a pin or a process.

    Attributes:
        pinned_at: the path of the pin; None of a process.
        pid: the process's number; None of a pin.
        comm: the process's name, at most 15 bytes; None of a pin.
    """

    pinned_at: Path | None = None
    pid: int | None = None
    comm: str | None = None

    def __str__(self) -> str:
        return f"process {self.pid} ({self.comm})" if self.pinned_at is None else f"pinned at {self.pinned_at}"


def link_holders() -> Mapping[int, tuple[LinkHolder, ...]]:
    """Find what keeps each link, by the link's number.

    Only the processes and the mounts that this process can see are looked at, so a link may have holders that are not
    listed, in another container for example. Without CAP_SYS_PTRACE the processes of other users are left out.

    Raises:
        PermissionError: CAP_BPF is missing.

    >>> for program in pair.programs("peer").programs:  # doctest: +SKIP
    ...     print(program.name, *link_holders().get(program.link_id, ()))
    """
    found: dict[int, list[LinkHolder]] = defaultdict(list)
    for place in _pins():
        with contextlib.suppress(ValueError, FileNotFoundError):  # another kind of object; unpinned meanwhile
            with Link.open_pinned(place) as link:
                found[link.id].append(LinkHolder(pinned_at=place))
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdecimal()):
        for number in _held(pid):
            with contextlib.suppress(OSError):
                found[number].append(LinkHolder(pid=pid, comm=proc.lines(str(pid), "comm")[0]))
    return {number: tuple(holders) for number, holders in found.items()}


def _pins() -> Iterator[Path]:
    roots = {mount.target for mount in proc.mounts() if mount.kind == "bpf"}
    for root in sorted(roots):
        for directory, _, names in os.walk(root):
            yield from (Path(directory, name) for name in sorted(names) if not name.endswith(".debug"))


def _held(pid: int) -> set[int]:
    numbers: set[int] = set()
    with contextlib.suppress(OSError):  # it has ended, or belongs to another user
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):  # closed meanwhile
                if "bpf" in os.readlink(f"/proc/{pid}/fd/{fd}"):
                    told = (line.partition(":") for line in proc.lines(str(pid), "fdinfo", fd))
                    numbers.update(int(value) for key, _, value in told if key == "link_id")
    return numbers
