# SPDX-License-Identifier: MIT
"""The line magic `%netkit`: which pairs there are, what crosses one, and what this machine lacks."""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys

from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_magic, magics_class
from IPython.core.magic_arguments import argument, magic_arguments

from netkit_bpf import EventBatch, Monitor, NetkitPair, pairs
from netkit_bpf.ipython.first_line import arguments_of, unquoted


def _seconds(text: str) -> float:
    with contextlib.suppress(ValueError):
        if (seconds := float(text)) >= 0:  # NaN is not
            return seconds
    raise argparse.ArgumentTypeError(f"must be a number of seconds, 0 or more, not {text!r}")


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text)):
        raise argparse.ArgumentTypeError(f"must be a number of packets, 1 or more, not {text!r}")
    return int(text)


@magics_class
class NetkitMagic(Magics):
    """Looking around from a cell."""

    @magic_arguments()
    @argument("action", choices=["pairs", "monitor", "doctor"], help="what to do")
    @argument("device", nargs="?", help="of monitor: a pair's name, or a variable that holds a NetkitPair")
    @argument("--filter", default=None, help="of monitor: a pcap-filter(7) expression, in quotes")
    @argument("--seconds", type=_seconds, default=5.0, help="of monitor: for how long, 5 if not given")
    @argument("--count", "-c", type=_count, default=None, help="of monitor: end after so many packets")
    @line_magic
    def netkit(self, line: str) -> list[NetkitPair] | EventBatch | None:
        """Look around: `%netkit pairs`, `%netkit monitor nk0 --filter "icmp6"`, `%netkit doctor`.

        `pairs` gives the pairs of this network namespace. `monitor` watches one and gives an `EventBatch` of what it
        saw; interrupting the kernel ends it. `doctor` prints what this machine has and lacks.
        """
        arguments = arguments_of(self.netkit, line)
        if arguments.action != "monitor" and arguments.device is not None:
            raise UsageError(f"%netkit {arguments.action} takes nothing else")
        if arguments.action == "pairs":
            return pairs()
        if arguments.action == "doctor":
            done = subprocess.run(
                [sys.executable, "-m", "netkit_bpf", "doctor"], capture_output=True, text=True, check=False
            )
            print(done.stdout + done.stderr, end="")
            return None
        if arguments.device is None:
            raise UsageError("%netkit monitor takes a pair: %netkit monitor nk0")
        held = self.shell.user_ns.get(arguments.device)  # type: ignore[union-attr]
        chosen = arguments.filter and unquoted(arguments.filter)
        try:
            pair = held if isinstance(held, NetkitPair) else NetkitPair.open(arguments.device)
            monitor = Monitor(pair, filter=chosen)
        except (OSError, LookupError, ValueError) as error:
            raise UsageError(f"%netkit monitor: {getattr(error, 'strerror', None) or error}") from None
        batches: list[EventBatch] = []
        with monitor:
            try:
                batches.extend(monitor.batches(duration=arguments.seconds, count=arguments.count))
            except KeyboardInterrupt:
                print("interrupted: these came until then")
            print(monitor.stats)
        return EventBatch.concat(batches)
