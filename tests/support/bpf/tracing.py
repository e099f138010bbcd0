"""What programs print, for tests of the log that reads it.

All programs on the machine print into one trace, in whatever namespace they run: tests look for their own lines alone.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from netkit_bpf import BPFObject, TraceLine
from programs import PRINTS, build

FRAME = bytes(12) + b"\x08\x00" + bytes(46)
OURS = f"nktest {os.getpid()}"
LINE, OTHER = f"{OURS}: 60 bytes", f"{OURS} other: one\ntwo"


@contextmanager
def mounted_tracefs(place: Path) -> Iterator[Path]:
    """Mount tracefs; afterwards no instance of this process is left in it."""
    subprocess.run(["mount", "-t", "tracefs", "tracefs", place], check=True)
    try:
        yield place
        assert instances(place, os.getpid()) == []
    finally:
        subprocess.run(["umount", place], check=True)


def instances(tracefs: Path, pid: int) -> list[Path]:
    return [*(tracefs / "instances").glob(f"netkit-bpf-{pid}-*")]


def hide_others(tracefs: Path) -> None:
    """Filter the open logs to the lines of this process, so that no others are read or lost."""
    for instance in instances(tracefs, os.getpid()):
        (instance / "events/bpf_trace/bpf_trace_printk/filter").write_text(f'bpf_string ~ "{OURS}*"')
        (instance / "trace").write_text("")  # empties the buffer


def printing() -> BPFObject:
    """The programs that print, to be loaded; what they say begins with OURS."""
    made = BPFObject.open(build(PRINTS))
    made.variables["pid"].value = os.getpid()
    return made


def run(obj: BPFObject, name: str, repeat: int = 1) -> None:
    """Have a program print."""
    obj.programs[name].test_run(FRAME, repeat=repeat)


def texts(lines: Iterable[TraceLine]) -> list[str]:
    return [line.text for line in lines]
