"""What a packet costs on its way, measured on the running kernel; needs root, no netkit.

Each figure is the median of several runs with their least and greatest; peers are measured alternately with it.
Prints a table and writes it as JSON: python benchmarks/bench.py [FILE]
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from ipaddress import IPv6Address
from pathlib import Path
from tempfile import TemporaryDirectory

from netkit_bpf import _core
from netkit_bpf.monitor import _load, _open, probe_load

HERE = Path(__file__).parent
ROUNDS = 7
EVENTS = 50_000
RING = 4 << 20  # holds 52,428 events
TCP = bytes(12) + b"\x86\xdd" + bytes.fromhex("60000000 0014 06 40") + IPv6Address("fd00::2").packed
TCP += IPv6Address("fd00::1").packed + bytes.fromhex("9c4001bb 00000000 00000000 50100000 00000000")

Rows = dict[str, list[float]]


def main() -> None:
    """Measure, print, write."""
    with TemporaryDirectory() as directory:
        consume, empty = _build(Path(directory))
        rows: Rows = {}
        for _ in range(ROUNDS):
            for name, value in _round(consume, empty):
                rows.setdefault(name, []).append(value)
    print(f"Linux {platform.release()}, {_cpu()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}\n")
    width = max(map(len, rows))
    print(f"{'':{width}}  median      least   greatest")
    for name, values in rows.items():
        print(f"{name:{width}} {statistics.median(values):8.2f} {min(values):9.2f} {max(values):9.2f}")
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(json.dumps({"kernel": platform.release(), "cpu": _cpu(), "rows": rows}, indent=1))


def _round(consume: Path, empty: _core.Object) -> list[tuple[str, float]]:
    libbpf = _libbpf_drain(consume)
    iterate = _iterate()
    base = _median_run(empty, "empty")
    program = _load(0, 64 << 20, None)
    unwoken = program.test_run("monitor_primary", TCP, EVENTS * 10)[2] - base
    full = _load(0, 4096, None)
    full.test_run("monitor_primary", TCP, 100)
    return [
        ("program, record made, nobody to wake, ns per packet", unwoken),
        ("program, ring full, ns per packet", _median_run(full, "monitor_primary") - base),
        ("libbpf consume, C, counting, ns per event", libbpf),
        ("for event in stream, 2 attributes, drain included, ns per event", iterate),
        ("ratio of these two", iterate / libbpf),
        ("load the monitor, ms", 1e3 * _seconds(probe_load)),
        ("import netkit_bpf, ms", 1e3 * (_python("import netkit_bpf") - _python("pass"))),
    ]


def _libbpf_drain(consume: Path) -> float:
    program = _filled()
    number = _map_id(program.map("events"))
    done = subprocess.run([consume, str(number), "drain"], capture_output=True, text=True, check=True)
    events, nanoseconds = done.stderr.split()
    assert int(events) == EVENTS
    return float(nanoseconds) / EVENTS


def _iterate() -> float:
    program = _filled()
    start = time.perf_counter_ns()
    stream = _open(program, RING, 16 << 20, ["nk0"], [])
    remaining = EVENTS
    for event in stream.events(None):
        event.src_port  # noqa: B018 - the access is what is measured
        event.payload_len  # noqa: B018
        remaining -= 1
        if not remaining:
            break
    elapsed = time.perf_counter_ns() - start
    (seen, delivered, lost, pending), _ = stream.stats()
    assert (seen, lost, pending) == (delivered, 0, 0)
    stream.close()
    return elapsed / EVENTS


def _filled() -> _core.Object:
    program = _load(0, RING, None)
    program.test_run("monitor_primary", TCP, EVENTS)
    return program


def _median_run(program: _core.Object, name: str) -> float:
    return statistics.median(program.test_run(name, TCP, 100_000)[2] for _ in range(3))


def _map_id(fd: int) -> int:
    for line in Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines():
        if line.startswith("map_id:"):
            return int(line.split()[1])
    raise LookupError(f"descriptor {fd} is no map")


def _seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def _python(code: str) -> float:
    return _seconds(lambda: subprocess.run([sys.executable, "-c", code], check=True))


def _build(directory: Path) -> tuple[Path, _core.Object]:
    consume = directory / "consume"
    subprocess.run(["gcc", "-O2", HERE / "peers" / "consumer.c", "-o", consume, "-lbpf"], check=True)
    image = directory / "empty.o"
    include = f"/usr/include/{platform.machine()}-linux-gnu"
    options = ["-target", "bpf", "-O2", "-g", "-idirafter", include]
    subprocess.run(["clang", *options, "-c", HERE / "peers" / "empty.bpf.c", "-o", image], check=True)
    empty = _core.Object(image.read_bytes(), "empty")
    empty.load()
    return consume, empty


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(": ")[1]
    return platform.machine()


if __name__ == "__main__":
    main()
