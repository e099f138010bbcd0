"""Those who read the events: this package, and its peers on the same records."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from producer import CONSUMER_CPU, pinned

import netkit_bpf
from netkit_bpf import BPFObject

HERE = Path(__file__).parent
MONITOR = Path(netkit_bpf._core.__file__).parent / "monitor.bpf.o"
RING = 4 << 20  # bytes


class Result(NamedTuple):
    """What a consumer says at its end: records, nanoseconds of CPU, latencies in nanoseconds."""

    records: int
    cpu: float
    p50: float = 0
    p99: float = 0


class Consumer:
    """A process that reads until it is stopped; `program` is the id of the program whose records it reads."""

    def __init__(self, command: list[str | Path], program: int | None) -> None:
        self._process = subprocess.Popen(
            [*pinned(CONSUMER_CPU), *command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        words = self._line().split()
        if words[:1] != ["ready"]:
            raise RuntimeError(
                f"{command}: {' '.join(words)}{self._process.stderr.read() if self._process.stderr else ''}"
            )
        self.program = int(words[1]) if program is None else program

    def _line(self) -> str:
        assert self._process.stderr is not None
        return self._process.stderr.readline()

    def stop(self) -> Result:
        """End it, once it has read what is there, and hear what it has to say."""
        self._process.terminate()
        line = self._line()
        self._process.wait(30)
        self._process.stderr.close()  # type: ignore[union-attr]
        records, *rest = line.split()
        return Result(int(records), *map(float, rest))

    def kill(self) -> None:
        """End it whatever it does."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


@contextlib.contextmanager
def loaded(path: Path, program: str) -> Iterator[tuple[int, int]]:
    """The ids of a program and of its ring buffer, while they are loaded."""
    with BPFObject.open(path) as opened:
        yield opened.programs[program].id, opened.maps["events"].id


@contextlib.contextmanager
def libbpf(build: Path, mode: str) -> Iterator[Consumer]:
    """libbpf's poll loop in C on this package's records: mode poll or latency; seed on those of the tutorials."""
    path, name = (build / "seed.o", "seed") if mode == "seed" else (MONITOR, "monitor_primary")
    with loaded(path, name) as (program, ring), _running([build / "consumer", str(ring), mode], program) as consumer:
        yield consumer


@contextlib.contextmanager
def bcc(mode: str) -> Iterator[Consumer]:
    """bcc's reader in Python, under the system's interpreter, which has the package."""
    with loaded(MONITOR, "monitor_primary") as (program, ring):
        command: list[str | Path] = ["/usr/bin/python3", HERE / "peers" / "bcc_consumer.py", str(ring), mode]
        with _running(command, program) as consumer:
            yield consumer


@contextlib.contextmanager
def ours(*arguments: str) -> Iterator[Consumer]:
    """A Monitor in a process of its own (ours.py), which counts what it loses and does not warn of it."""
    with _running([sys.executable, "-W", "ignore", HERE / "ours.py", *arguments], None) as consumer:
        yield consumer


@contextlib.contextmanager
def _running(command: list[str | Path], program: int | None) -> Iterator[Consumer]:
    consumer = Consumer(command, program)
    try:
        yield consumer
    finally:
        consumer.kill()


def has_bcc() -> bool:
    """Whether the peer can be measured: Debian's python3-bpfcc."""
    return subprocess.run(["/usr/bin/python3", "-c", "import bcc"], capture_output=True, check=False).returncode == 0
