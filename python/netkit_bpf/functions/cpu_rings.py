# SPDX-License-Identifier: MIT
"""A ring buffer for each CPU: the map cpu_rings of bpf/monitor.bpf.c."""

from __future__ import annotations

from pathlib import Path

from netkit_bpf.bpf.map import Map
from netkit_bpf.bpf.object import BPFObject


def possible_cpus() -> int:
    """The number of possible CPUs: one more than the highest CPU number."""
    return _numbers("possible")[-1] + 1


def make_cpu_rings(obj: BPFObject, ring_size: int) -> list[Map]:
    """Give each online CPU its own ring; all other CPUs share the ring of the first one."""
    first, *others = _numbers("online")
    rings = {first: obj.maps["events"]}
    rings |= {cpu: Map.create("ringbuf", name=f"cpu{cpu}_events", max_entries=ring_size) for cpu in others}
    obj.maps["cpu_rings"].update_batch(rings.keys(), rings.values())
    return list(rings.values())


def _numbers(state: str) -> list[int]:
    """Which CPUs are "online" or "possible", by Documentation/ABI/testing/sysfs-devices-system-cpu."""
    text = Path(f"/sys/devices/system/cpu/{state}").read_text()  # "0-3,5"
    ranges = [part.split("-") for part in text.split(",")]
    return [number for bounds in ranges for number in range(int(bounds[0]), int(bounds[-1]) + 1)]
