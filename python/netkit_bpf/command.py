# SPDX-License-Identifier: MIT
"""The command netkit-bpf: a surface of the package, with no logic of its own."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from contextlib import ExitStack
from importlib.metadata import version
from types import FrameType

from netkit_bpf import doctor
from netkit_bpf.monitor import Monitor
from netkit_bpf.pair import NetkitPair


class _Stop:
    """Ctrl-C and SIGTERM end the monitor and nothing else, so that what was made is removed in order."""

    def __init__(self) -> None:
        self.requested = False
        self.monitor: Monitor | None = None
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self)

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        self.requested = True
        if self.monitor is not None:
            self.monitor.close()


def _monitor(arguments: argparse.Namespace) -> int:
    stop = _Stop()
    with ExitStack() as cleanup:
        pair = cleanup.enter_context(_pair(arguments))
        monitor = cleanup.enter_context(Monitor(pair))
        stop.monitor = monitor
        _announce(arguments, pair)
        _print_events(arguments, monitor, stop)
        monitor.close()
        _print_stats(arguments, monitor)
    return 0


def _pair(arguments: argparse.Namespace) -> NetkitPair:
    if arguments.existing:
        return NetkitPair.open(arguments.name)
    try:
        return NetkitPair.create(arguments.name, mode=arguments.mode)
    except FileExistsError as error:
        raise FileExistsError(
            error.errno,
            f"{error.strerror}. An earlier run that was killed may have left it: watch it with --existing,"
            f" or remove it with: ip link delete {arguments.name}",
        ) from None


def _announce(arguments: argparse.Namespace, pair: NetkitPair) -> None:
    name = pair.primary.name
    if arguments.existing:
        print(f"netkit-bpf: watching {name}, {pair.mode}. Ctrl-C ends.", file=sys.stderr)
        return
    primary, peer = pair.add_link_local()
    print(
        f"netkit-bpf: made {name} ({primary.ip}) and {pair.peer.name} ({peer.ip}), {pair.mode}."
        f" Try: ping {peer.ip}%{name}   Ctrl-C ends and removes them.",
        file=sys.stderr,
    )


def _print_events(arguments: argparse.Namespace, monitor: Monitor, stop: _Stop) -> None:
    end = None if arguments.duration is None else time.monotonic() + arguments.duration
    left = arguments.count
    while not stop.requested and left != 0:
        try:
            event = monitor.read(None if end is None else max(0.0, end - time.monotonic()))
        except ValueError:
            return  # closed by a signal just before
        if event is None:
            return
        _say(event.to_json() if arguments.json else str(event))
        if left is not None:
            left -= 1


def _print_stats(arguments: argparse.Namespace, monitor: Monitor) -> None:
    if arguments.json:
        _say(json.dumps({"stats": {side: stats._asdict() for side, stats in monitor.stats._asdict().items()}}))
    else:
        print(f"netkit-bpf: {monitor.stats}", file=sys.stderr)


def _say(line: str) -> None:
    """Write a line to standard output now, for whoever reads along."""
    try:
        print(line, flush=True)
    except OSError as error:
        # What is still buffered must not fail once more when the interpreter exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise
        raise OSError(error.errno, f"write to standard output: {error.strerror}") from None


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError("must be more than 0 seconds")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="netkit-bpf", description="Linux netkit devices and their eBPF hooks.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {version('netkit-bpf')}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    monitor = commands.add_parser(
        "monitor",
        help="print every packet on the hooks of a pair",
        description="Make a netkit pair with link-local addresses, print a line for every packet on its hooks, and"
        " remove it on Ctrl-C. Needs root.",
    )
    monitor.add_argument("--name", default="nk0", help="name of the primary (default: %(default)s)")
    monitor.add_argument("--mode", choices=("l2", "l3"), default="l3", help="of the new pair (default: %(default)s)")
    monitor.add_argument(
        "--existing", action="store_true", help="watch the pair NAME that is there, and leave it as it is"
    )
    monitor.add_argument("--count", type=_count, metavar="N", help="end after N packets")
    monitor.add_argument("--duration", type=_seconds, metavar="S", help="end after S seconds")
    monitor.add_argument("--json", action="store_true", help="a JSON object a line; the last one holds the loss counts")
    monitor.set_defaults(run=_monitor)

    examine = commands.add_parser("doctor", help="say what this machine has and lacks, and what to do about it")
    examine.set_defaults(run=lambda _: doctor.main())
    return parser


def main() -> int:
    """Run the command; returns its exit status: 0, 1 for an error, 2 for wrong usage, 130 for an early Ctrl-C."""
    arguments = _parser().parse_args()
    try:
        status: int = arguments.run(arguments)
    except KeyboardInterrupt:
        return 130  # before there was anything to end
    except BrokenPipeError:
        return 0  # whoever read our lines has enough
    except (OSError, ValueError, LookupError) as error:
        text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        print(f"netkit-bpf: {text}", file=sys.stderr)
        return 1
    return status
