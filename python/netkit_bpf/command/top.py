# SPDX-License-Identifier: MIT
"""netkit-bpf top: who sends most over pairs, live."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack

from netkit_bpf.command.live.lines import lines_of
from netkit_bpf.command.output import say, say_json
from netkit_bpf.command.selection import add_pairs, open_pairs
from netkit_bpf.command.signals import expect_pair, interrupt_on_signals
from netkit_bpf.command.usage import seconds, whole_number
from netkit_bpf.flows.flow import Flow
from netkit_bpf.flows.table import FlowTable
from netkit_bpf.functions.metrics import FlowMetrics

_ORDERS = {"bytes": "bytes", "packets": "packets", "rtt": "handshake_ns", "last": "last_ns"}
_KEYS = {order[0]: order for order in _ORDERS}
_PAGE = (120, 1 << 20)  # where there is no terminal: all flows
_HEADS = 1


def _top(arguments: argparse.Namespace) -> int:
    interrupt_on_signals()
    with ExitStack() as cleanup:
        try:
            metrics = cleanup.enter_context(FlowMetrics(*open_pairs(arguments)))
            if arguments.json or sys.stdout is None or not sys.stdout.isatty():
                _print(arguments, metrics)
            else:
                _show(arguments, metrics)
        except KeyboardInterrupt:
            return 0
    return 0


def _print(arguments: argparse.Namespace, metrics: FlowMetrics) -> None:
    """One table, or as many as are asked for."""
    for _ in range(arguments.count or 1):
        expect_pair(metrics)
        moved = metrics.rates(arguments.interval)
        table = metrics.snapshot()
        if arguments.json:
            say_json(*_json(moved, arguments.sort))
        else:
            say(*(line.rstrip() for line in lines_of(moved, table, _ORDERS[arguments.sort], *_PAGE)))


def _json(moved: FlowTable, order: str) -> Iterator[str]:
    """Each flow, and all together, as lines that say what they are."""
    for flow in moved.top(len(moved), _ORDERS[order]):
        yield json.dumps({"type": "flow", **_plain(flow)})
    yield json.dumps({"type": "total", "seconds": moved.seconds, **moved.total._asdict()})


def _plain(flow: Flow) -> dict[str, object]:
    fields = flow._asdict()
    for name in ("src", "dst"):
        fields[name] = None if fields[name] is None else str(fields[name])
    for name in ("protocol", "tcp_flags"):
        fields[name] = None if fields[name] is None else int(fields[name])
    return fields


def _show(arguments: argparse.Namespace, metrics: FlowMetrics) -> None:
    """Draw until a key or a signal ends it."""
    from netkit_bpf.command.live.screen import Screen  # which needs a terminal's modules

    order, left = arguments.sort, arguments.count
    with Screen().taken() as screen:
        earlier = table = metrics.snapshot()
        moved = table.since(earlier)
        while left is None or left > 0:
            expect_pair(metrics)
            end = time.monotonic() + arguments.interval
            while (rest := end - time.monotonic()) > 0:
                width, height = screen.size
                lines = lines_of(moved, table, _ORDERS[order], width, height - 1)
                screen.draw([*lines, _help(order)[:width]], heads=_HEADS)
                key = screen.key(rest)
                if key in ("q", "Q", "", "\x04"):
                    return
                order = _KEYS.get(key or "", order)
            table = metrics.snapshot()
            moved, earlier = table.since(earlier), table
            left = None if left is None else left - 1


def _help(order: str) -> str:
    """What the keys do: each order has its first letter; the one that is chosen is in capitals."""
    return "q quit  sort: " + " ".join(each.upper() if each == order else each for each in _ORDERS)


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand and its options."""
    parser = commands.add_parser(
        "top",
        help="show which flows of pairs send most",
        description="Show which flows on the hooks of pairs send most, live; q or Ctrl-C ends. Where standard output"
        " is no terminal, print one table. Needs root.",
    )
    add_pairs(parser)
    parser.add_argument(
        "--interval", type=seconds, default=1.0, metavar="S", help="seconds between two tables (default: 1)"
    )
    parser.add_argument("-c", "--count", type=whole_number, metavar="N", help="end after N tables")
    parser.add_argument("--sort", choices=[*_ORDERS], default="bytes", help="which flows come first (default: bytes)")
    help_ = 'a JSON object a line, of type "flow" for each flow that sent; at last one of type "total"'
    parser.add_argument("--json", action="store_true", help=help_)
    parser.set_defaults(run=_top)
