"""A swap under traffic, on any wire of IPv4."""

from __future__ import annotations

import errno
import itertools
import random
import socket
import struct
import threading
import time

from programs import JUDGES, load
from traffic import Wire, towards

NUMBERS = 10_000
MAGIC = 0x6E6B6E6B


def each_packet_meets_exactly_one_of_two_programs(wire: Wire) -> None:
    """One program passes packets, the other drops them; they are swapped continuously, and each records its packets."""
    received: list[int] = []
    with (
        load(JUDGES) as judges,
        wire.left.socket(socket.SOCK_DGRAM) as out,
        wire.right.socket(socket.SOCK_DGRAM) as into,
    ):
        into.bind(wire.right.name(0))
        into.setblocking(False)

        def receive() -> None:
            while True:
                try:
                    received.append(struct.unpack("=II", into.recv(64))[1])
                except BlockingIOError:
                    return

        flowing = threading.Event()
        flowing.set()
        swaps = itertools.count()
        link = wire.pair.attach(judges.programs["passes"], "primary")

        def swap() -> None:
            while flowing.is_set():
                next(swaps)  # at random, as two in a row between two packets would show nothing
                link.update(judges.programs[random.choice(["drops", "passes"])])
                time.sleep(200e-6)

        swapper = threading.Thread(target=swap)
        swapper.start()
        try:
            to = towards(wire.left, wire.right, into.getsockname()[1])
            for number in range(NUMBERS):
                try:
                    out.sendto(struct.pack("=II", MAGIC, number), to)
                except OSError as error:  # the sender is told of a drop at its own hook
                    if error.errno != errno.ENOBUFS:
                        raise
                if number % 100 == 0:
                    receive()
                    time.sleep(20e-6)  # so that a machine with one CPU to spare takes turns
        finally:
            flowing.clear()
            swapper.join()
        passed, dropped = judges.variables["passed"].value, judges.variables["dropped"].value
        deadline = time.monotonic() + 10
        while len(received) < sum(passed) and time.monotonic() < deadline:
            receive()
        link.close()
    assert [number for number in range(NUMBERS) if passed[number] + dropped[number] != 1] == []
    assert received == [number for number in range(NUMBERS) if passed[number]]
    changes = sum(this != that for this, that in itertools.pairwise(passed))
    assert changes >= 10, f"{next(swaps)} swaps changed the judge {changes} times"
