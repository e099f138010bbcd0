"""Prints the KiB that a monitor at rest takes beyond its ring and its queue."""

from __future__ import annotations

import gc
import re
from pathlib import Path

import wire

from netkit_bpf import Monitor

RING = 4096


def resident() -> int:
    """KiB of this process's own pages."""
    gc.collect()
    found = re.search(r"^RssAnon:\s+(\d+)", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


def main() -> None:
    """Measure the second monitor: what the first use of everything takes is not the monitor's."""
    with wire.pair() as pair:
        with Monitor(pair, ring_size=RING):
            pass
        before = resident()
        with Monitor(pair, ring_size=RING):
            print(resident() - before)


main()
