# SPDX-License-Identifier: MIT
"""Rules that are replaced under a flow of numbered packets."""

from __future__ import annotations

import contextlib
import errno
import itertools
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from netkit_bpf import Firewall, Rule, Ruleset
from traffic import TIMEOUT, Wire, towards

SO_RCVBUFFORCE = 33  # asm-generic/socket.h
PORT = 7
SILENCE = 1.0  # seconds: whatever arrives has arrived by then


@dataclass
class Numbered:
    """Datagrams from the left end, numbered from 0 on."""

    sent: int = 0
    received: list[int] = field(default_factory=list)

    def wait_for_one(self) -> None:
        """Until a datagram was sent that was not begun before."""
        sent, end = self.sent, time.monotonic() + TIMEOUT
        while self.sent < sent + 2:
            assert time.monotonic() < end
            time.sleep(50e-6)


@contextlib.contextmanager
def numbered_datagrams(wire: Wire) -> Iterator[Numbered]:
    """Send them all the while; afterwards it is known which have arrived."""
    numbered = Numbered()
    ending = threading.Event()
    with wire.left.socket(socket.SOCK_DGRAM) as out, wire.right.socket(socket.SOCK_DGRAM) as into:
        into.bind(wire.right.name(PORT))
        into.settimeout(SILENCE)
        into.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)  # so that the receiver may be slow

        def send() -> None:
            to = towards(wire.left, wire.right, PORT)
            while not ending.is_set():
                try:
                    out.sendto(struct.pack("=I", numbered.sent), to)
                except OSError as error:  # the sender is told of a drop at its own hook
                    if error.errno != errno.ENOBUFS:
                        raise
                numbered.sent += 1
                time.sleep(50e-6)  # so that a machine with one CPU to spare takes turns

        def receive() -> None:
            while True:
                try:
                    numbered.received.append(struct.unpack("=I", into.recv(64))[0])
                except TimeoutError:
                    if ending.is_set():
                        return

        sender, receiver = threading.Thread(target=send), threading.Thread(target=receive)
        receiver.start()
        sender.start()
        try:
            yield numbered
        finally:
            ending.set()
            sender.join()
            receiver.join()


def replace_under_traffic(wire: Wire, times: int) -> tuple[int, int]:
    """Replace rules so often; returns how many packets were sent meanwhile and how often they stopped arriving.

    Two rulesets of opposite verdicts, both with both rules: each datagram is counted once, and arrives if passed.
    """
    fill = [f"drop primary tcp to any port {port}" for port in range(1, 200)]
    passing, dropping = Rule.parse("pass primary udp to any port 7"), Rule.parse("drop primary udp to any port 7")
    passes, drops = Ruleset([passing, *fill, dropping]), Ruleset([*fill[:100], dropping, *fill[100:], passing])
    with Firewall(wire.pair, passes, sides=["primary"]) as firewall:
        with numbered_datagrams(wire) as numbered:
            for rules, _ in zip(itertools.cycle([drops, passes]), range(times), strict=False):
                firewall.replace(rules)
                numbered.wait_for_one()  # a thread that computes may keep the sender from it
        passed, dropped = (firewall.counters[rule].packets for rule in (passing, dropping))
    assert passed + dropped == numbered.sent, (passed, dropped, numbered.sent, len(numbered.received))
    assert len(numbered.received) == passed
    assert numbered.received == sorted(set(numbered.received))
    changes = sum(following != number + 1 for number, following in itertools.pairwise(numbered.received))
    return numbered.sent, changes


def log_under_traffic(wire: Wire, times: int) -> int:
    """Replace rules that log so often; returns how many packets were sent meanwhile.

    Each ruleset has the rule that decides at another place and by another name, and passes or drops in turn.
    """
    fill = [f"drop primary tcp to any port {port}" for port in range(1, 20)]
    with Firewall(wire.pair, _named(0, fill), sides=["primary"], ring_size=64 << 20) as firewall:
        with numbered_datagrams(wire) as numbered:
            for generation in range(1, times + 1):
                firewall.replace(_named(generation, fill))
        events = list(firewall.events(timeout=0))
        assert firewall.log.stats.total.lost == 0
    assert len(events) == numbered.sent
    arrived = set(numbered.received)
    for number, event in enumerate(events):
        assert event.rule is not None
        assert event.rule.name == f"of {event.generation}"
        assert event.number == event.generation % len(fill)
        assert event.verdict == ("drop" if event.rule.action == "drop" else "next")
        assert (number in arrived) == (event.rule.action == "pass"), (number, str(event))
    return numbered.sent


def _named(generation: int, fill: list[str]) -> Ruleset:
    action = "drop" if generation % 2 else "pass"
    at = generation % len(fill)
    return Ruleset([*fill[:at], f'{action} primary log udp to any port {PORT} label "of {generation}"', *fill[at:]])
