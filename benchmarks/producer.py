"""The packets: one TCP segment over IPv6, run through a BPF program by BPF_PROG_TEST_RUN on a CPU of its own."""

from __future__ import annotations

import os
import subprocess
import time
from ipaddress import IPv6Address
from pathlib import Path
from typing import NamedTuple

PRODUCER_CPU, CONSUMER_CPU = 0, 1
PACKET = bytes(12) + b"\x86\xdd" + bytes.fromhex("60000000 0014 06 40") + IPv6Address("fd00::2").packed
PACKET += IPv6Address("fd00::1").packed + bytes.fromhex("9c4001bb 00000000 00000000 50100000 00000000")


class Sent(NamedTuple):
    """What was sent: packets, nanoseconds in all, nanoseconds in the program."""

    packets: int
    elapsed: float
    spent: float


def flood(build: Path, program: int, *, burst: int, rate: float, seconds: float) -> Sent:
    """Run the program with this id on `rate` packets a second, 0 for as many as it can, in bursts."""
    command = _command(build, program, PRODUCER_CPU, burst, rate, seconds)
    return _sent(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def flood_from_two(build: Path, program: int, *, packets: int) -> list[Sent]:
    """Run the program on so many packets on each of two CPUs at once."""
    start = time.clock_gettime_ns(time.CLOCK_MONOTONIC) + 500_000_000  # until both are there, or they would not meet
    started = [
        subprocess.Popen(
            [*_command(build, program, cpu, packets, 0, 1e-9), str(start)], stdout=subprocess.PIPE, text=True
        )
        for cpu in (PRODUCER_CPU, CONSUMER_CPU)
    ]
    return [_sent(each.communicate()[0]) for each in started]


def _command(build: Path, program: int, cpu: int, burst: int, rate: float, seconds: float) -> list[str | Path]:
    return [*pinned(cpu), build / "flood", str(program), PACKET.hex(), str(burst), str(rate), str(seconds)]


def _sent(text: str) -> Sent:
    packets, elapsed, spent = text.split()
    return Sent(int(packets), float(elapsed), float(spent))


def pinned(cpu: int) -> list[str]:
    """The start of a command that is to run on one CPU; with a single CPU there is no choice."""
    return ["taskset", "-c", str(cpu)] if (os.cpu_count() or 1) > 1 else []
