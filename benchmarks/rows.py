"""What is measured: each function gives the figures of one round, by name; a goal divides two of them."""

from __future__ import annotations

import compileall
import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Literal

import consumers
import drains
import nodes as node
import wire
from producer import PACKET, flood, flood_from_two

import devices
from netkit_bpf import BPFObject, Monitor

if TYPE_CHECKING:
    from netkit_bpf import EventBatch

Figures = Iterator[tuple[str, float]]
BURST = 64


def program(build: Path) -> Figures:
    """What the programs cost a packet, when nobody needs to be woken, and the loading of them."""
    base = _run(build / "empty.o", "empty")
    yield "program: full record, ns", _run(consumers.MONITOR, "monitor_primary", 64 << 20) - base
    yield "program: the tutorials', ns", _run(build / "seed.o", "seed", 64 << 20) - base
    yield "program: ring full, ns", _run(consumers.MONITOR, "monitor_primary", 4096) - base
    # What the kernel still frees of the rings above disturbs the first ones.
    ours, theirs = zip(
        *((_seconds(partial(_load, path)) for path in (consumers.MONITOR, build / "seed.o")) for _ in range(9)),
        strict=False,
    )
    yield "load: the monitor, ms", 1e3 * median(ours)
    yield "load: the tutorials', with CO-RE, ms", 1e3 * median(theirs)


def filters(build: Path) -> Figures:
    """What a filter adds to a packet that matches, and what a packet costs that does not."""
    with BPFObject.open(build / "empty.o") as empty:
        base = _burst(build, empty.programs["empty"].id)
    for text, expression in (
        ("no filter", None),
        ("a filter that matches", "tcp port 443"),
        ("a filter that does not match", "udp port 53"),
    ):
        with wire.pair() as pair:
            with Monitor(pair, sides=["primary"], filter=expression, ring_size=16 << 20, thread=None):
                (attached,) = pair.programs("primary").programs
                yield f"filter: {text}, ns", _burst(build, attached.id) - base


def drain(build: Path) -> Figures:
    """What is read of a full ring, ns an event."""
    yield "drain: libbpf, counting, ns", drains.of_peer(build, [build / "consumer"], "drain")
    if consumers.has_bcc():
        command: list[str | Path] = ["/usr/bin/python3", _here("peers/bcc_consumer.py")]
        yield "drain: bcc, 2 attributes, ns", drains.of_peer(build, command, "drain")
    if (build / "drain").exists():
        yield "drain: blocks in C++, counting, ns", drains.of_peer(build, [build / "drain"])
        yield "drain: record by record in C++, counting, ns", drains.of_peer(build, [build / "drain"], "record")
    yield "drain: memcpy of the ring, ns", min(drains.copy_ring(build) for _ in range(3))
    yield "drain: blocks handed to Python, ns", drains.of_monitor(build, drains.count_batches)
    yield "drain: numpy batches, ns", drains.of_monitor(build, drains.sum_batches)
    yield "drain: for event, 2 attributes, ns", drains.of_monitor(build, drains.iterate)
    yield "drain: Python's own loop, 2 attributes, ns", drains.loop_at_hand(build)


def cpus(build: Path) -> Figures:
    """Two CPUs that send at once, nobody reading: what each could send if the program were all that it does."""
    if (os.cpu_count() or 1) < 2:
        return
    base = _run(build / "empty.o", "empty")
    names: dict[str, Literal["shared", "percpu"]] = {"one shared ring": "shared", "per-CPU rings": "percpu"}
    for name, rings in names.items():
        with (
            wire.pair() as pair,
            Monitor(pair, sides=["primary"], ring_size=64 << 20, rings=rings, thread=None) as monitor,
        ):
            (attached,) = pair.programs("primary").programs
            sent = flood_from_two(build, attached.id, packets=300_000)
            assert monitor.stats.primary.lost == 0
        yield f"two producers: {name}, M/s each", sum(1e3 / (each.spent / each.packets - base) for each in sent) / 2


def text(build: Path) -> Figures:
    """The classic line of each event to /dev/null, ns an event, of a full ring."""
    yield "print: libbpf, inet_ntop, printf, ns", drains.of_peer(build, [build / "consumer"], "print")
    yield "print: the lines of a batch, ns", drains.of_monitor(build, drains.print_batches)
    yield "print: print(event), ns", drains.of_monitor(build, drains.print_events)


def rate(build: Path) -> Figures:
    """The highest rate, in bursts of 64, of which nothing is lost; millions a second."""
    for name, open_consumer in contenders(build).items():
        yield f"rate: {name}, M/s", _highest_rate(build, open_consumer) / 1e6


def busy(build: Path) -> Figures:
    """At 100,000 events a second: CPU of the consumer in cores, and what a packet's path takes more than alone."""
    alone = _path(build)
    for name, open_consumer in contenders(build).items():
        with open_consumer() as consumer:
            sent = flood(build, consumer.program, burst=1, rate=100_000, seconds=2)
            result = consumer.stop()
        yield f"100k/s: {name}, cores", result.cpu / sent.elapsed
        yield f"100k/s: {name}, ns more in the packet's path", max(1.0, sent.spent / sent.packets - alone)


def idle(build: Path) -> Figures:
    """One event now and then: from the program's clock to the reader's, microseconds."""
    contenders: dict[str, Callable[[], AbstractContextManager[consumers.Consumer]]] = {
        "libbpf": lambda: consumers.libbpf(build, "latency"),
        "threaded": lambda: consumers.ours("latency", "threaded"),
        "inline": lambda: consumers.ours("latency", "inline"),
    }
    if consumers.has_bcc():
        contenders["bcc"] = lambda: consumers.bcc("latency")
    for name, open_consumer in contenders.items():
        with open_consumer() as consumer:
            flood(build, consumer.program, burst=1, rate=200, seconds=3)
            time.sleep(0.2)
            result = consumer.stop()
        yield f"idle: {name}, p50 us", result.p50 / 1e3
        yield f"idle: {name}, p99 us", result.p99 / 1e3


def export(build: Path) -> Figures:
    """Queued events to numpy and Arrow, against copying their bytes; ns an event."""
    import numpy as np

    count = 10_000_000
    source = np.ones(count * Monitor.RECORD_SIZE, dtype=np.uint8)
    target = np.empty_like(source)
    np.copyto(target, source)
    yield "export: memcpy, ns", 1e9 * _seconds(lambda: np.copyto(target, source)) / count
    yield "export: numpy, ns", _export(build, count, lambda batch: np.asarray(batch))
    yield "export: Arrow, ns", _export(build, count, lambda batch: batch.__arrow_c_array__())


def start(_: Path) -> Figures:
    """Importing, of bytecode, as pip leaves it; and the memory of a monitor at rest."""
    for name in ("netkit_bpf", "pyroute2"):
        if found := importlib.util.find_spec(name):
            compileall.compile_dir(Path(str(found.origin)).parent, quiet=1)
    bare = _python("pass")
    yield "import: netkit_bpf, ms", 1e3 * (_python("import netkit_bpf") - bare)
    if importlib.util.find_spec("pyroute2"):
        yield "import: pyroute2, ms", 1e3 * (_python("import pyroute2") - bare)
    yield (
        "rest: memory beyond ring and queue, KiB",
        float(subprocess.run([sys.executable, _here("memory.py")], capture_output=True, text=True, check=True).stdout),
    )


def pairs(_: Path) -> Figures:
    """Making, configuring and deleting pairs."""
    yield "pair: ours, ms", devices.ours()
    yield "pair: ip -batch, ms", devices.ip_batch()
    if importlib.util.find_spec("pyroute2"):
        yield "pair: pyroute2, ms", devices.pyroute2()
    yield "delete: 64 by their group, ms a pair", devices.delete_by_group()
    yield "delete: one by one, ms a pair", devices.delete_one_by_one()


def nodes(_: Path) -> Figures:
    """Opening and closing monitors of many pairs."""
    yield from node.opening_and_closing()


def _here(name: str) -> Path:
    return Path(__file__).parent / name


def contenders(build: Path) -> dict[str, Callable[[], AbstractContextManager[consumers.Consumer]]]:
    """Who reads events as they come."""
    found: dict[str, Callable[[], AbstractContextManager[consumers.Consumer]]] = {
        "libbpf poll": lambda: consumers.libbpf(build, "poll"),
        "tutorials' loop in C": lambda: consumers.libbpf(build, "seed"),
        "for event, 2 attributes": lambda: consumers.ours("iterate"),
        "for event, inline": lambda: consumers.ours("iterate", "inline"),
        "numpy batches": lambda: consumers.ours("batch"),
    }
    if consumers.has_bcc():
        found["bcc, 2 attributes"] = lambda: consumers.bcc("poll")
    return found


def _load(path: Path) -> None:
    with BPFObject.open(path):
        pass


def _run(path: Path, name: str, ring_size: int | None = None) -> float:
    opened = BPFObject.open(path)
    if ring_size is not None:
        opened.maps["events"].max_entries = ring_size
    with opened:
        opened.programs[name].test_run(PACKET, repeat=1000)
        return min(float(opened.programs[name].test_run(PACKET, repeat=100_000).duration_ns) for _ in range(3))


def _seconds(function: Callable[[], object]) -> float:
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def _python(code: str) -> float:
    """Seconds, with modules that an earlier run has compiled, whatever the environment says of writing them."""
    argv, env = [sys.executable, "-c", code], {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    return min(_seconds(lambda: subprocess.run(argv, check=True, env=env)) for _ in range(5))


def _export(build: Path, count: int, convert: Callable[[EventBatch], object]) -> float:
    """All the batches are there before the first is converted."""
    with wire.pair() as pair, Monitor(pair, sides=["primary"], queue_size=count * 100) as monitor:
        (attached,) = pair.programs("primary").programs
        batches = []
        taken = 0
        while taken < count:
            flood(build, attached.id, burst=min(40_000, count - taken), rate=0, seconds=1e-9)
            while monitor.stats.primary.pending:
                batches.append(monitor.read_batch(timeout=1))
                taken += len(batches[-1])
        assert taken == count
        elapsed = 0.0
        for batch in batches:
            elapsed += _seconds(partial(convert, batch))
    return 1e9 * elapsed / count


def _burst(build: Path, program: int) -> float:
    """What a program takes for each packet of a burst that the ring has room for."""
    spent = []
    for _ in range(3):
        sent = flood(build, program, burst=drains.EVENTS, rate=0, seconds=1e-9)
        spent.append(sent.spent / sent.packets)
    return min(spent)


def _path(build: Path) -> float:
    """What the monitor's program takes when packets come one by one and nobody needs to be woken."""
    with consumers.loaded(consumers.MONITOR, "monitor_primary") as (program, _):
        sent = flood(build, program, burst=1, rate=100_000, seconds=0.4)  # 40,000 fit the ring
    return sent.spent / sent.packets


def _highest_rate(build: Path, open_consumer: Callable[[], AbstractContextManager[consumers.Consumer]]) -> float:
    """Try higher and higher rates, a quarter more each, until one loses; then one between."""

    def bears(rate: float) -> float:
        with open_consumer() as consumer:
            sent = flood(build, consumer.program, burst=BURST, rate=rate, seconds=0.5)
            time.sleep(0.1)
            received = consumer.stop().records
        return sent.packets / sent.elapsed * 1e9 if received == sent.packets else 0

    rate = 500_000.0
    while not (best := bears(rate)):
        rate /= 2
        if rate < 1000:
            return 0
    while True:
        rate *= 1.25
        reached = bears(rate)
        if not reached:
            return max(best, bears(rate / 1.125))
        best = max(best, reached)
        if reached < 0.9 * rate:  # the producer is at its end
            return best
