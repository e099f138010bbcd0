# SPDX-License-Identifier: MIT
"""Packets on standard output: as tcpdump(8) prints them, as the summaries of events, or as JSON."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from typing import TYPE_CHECKING

from netkit_bpf.command.output import printable, say, say_json
from netkit_bpf.command.packets.options import TIMES
from netkit_bpf.events.batch import EventBatch
from netkit_bpf.events.event import PacketEvent
from netkit_bpf.events.stats import MonitorStats
from netkit_bpf.events.tcpdump import Dump, TcpdumpFormat
from netkit_bpf.export.export import Export

if TYPE_CHECKING:
    from netkit_bpf.firewall.verdict_event import VerdictEvent


_ACCOUNT = 1.0  # seconds from one account to the next


class Printer:
    """Prints batches, each at once: under load a system call for each line would take ten times as long."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._format = arguments.format
        dump: Dump = (
            "both" if arguments.both else "hex" if arguments.hex else "characters" if arguments.characters else "none"
        )
        self._tcpdump = TcpdumpFormat(
            time=TIMES[min(arguments.time, 5)],
            nanoseconds=arguments.precision == "nano",
            number=arguments.number,
            link=arguments.link,
            quiet=arguments.quiet,
            absolute=arguments.absolute,
            verbose=arguments.verbose,
            dump=dump,
            dump_link=max(arguments.both, arguments.hex) > 1,
            color=_is_colored(arguments.color),
        )

    def write(self, batch: EventBatch) -> None:
        """Print the packets of a batch; raises what `say` raises."""
        if self._format == "json":
            say_json(*(json_line(event, "event") for event in batch))
        elif self._format == "classic":
            say(*map(str, batch))
        else:
            names = batch.pair_names
            shown = [printable(name) for name in names] if len(names) > 1 else None
            say_json(self._tcpdump.format(batch, shown).removesuffix("\n"))


class ExportPrinter:
    """Prints batches as lines for a store, and each second and at the end the accounts that they reconcile with."""

    def __init__(self, export: Export) -> None:
        self._export = export
        self._accounted = time.monotonic()

    def write(self, batch: EventBatch) -> None:
        """Print the packets of a batch; raises what `say` raises."""
        say_json(*self._export.stamp(batch).json_lines())
        if time.monotonic() - self._accounted >= _ACCOUNT:
            self.finish()
            self._accounted = time.monotonic()

    def finish(self) -> None:
        """Print the accounts."""
        say_json(*(account.to_json() for account in self._export.accounts()))


def _is_colored(choice: str) -> bool:
    if choice == "auto":
        return not os.environ.get("NO_COLOR") and sys.stdout is not None and sys.stdout.isatty()
    return choice == "always"


def json_line(event: PacketEvent | VerdictEvent, kind: str) -> str:
    """Describe an event as a JSON line of the command; each line has a type."""
    return f'{{"type": "{kind}", {event.to_json()[1:]}'


def stats_line(stats: MonitorStats) -> str:
    """Describe the counts at the end as such a line."""
    sides = {side: each._asdict() for side, each in stats._asdict().items()}
    return json.dumps({"type": "stats", **sides, "reading": stats.reading._asdict()})
