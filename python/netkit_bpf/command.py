# SPDX-License-Identifier: MIT
"""The command netkit-bpf: a surface of the package, with no logic of its own."""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import os
import signal
import sys
import time
from contextlib import ExitStack
from types import FrameType

from netkit_bpf import doctor
from netkit_bpf.enums import Mode
from netkit_bpf.monitor import Monitor
from netkit_bpf.pair import NetkitPair


class _Stop:
    """Ctrl-C, SIGTERM and a closed terminal end the monitor and nothing else, so that what was made is removed."""

    def __init__(self) -> None:
        self.requested = False
        self.monitor: Monitor | None = None
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup(1)
            signal.signal(signal.SIGHUP, self)

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
        try:
            _print_events(arguments, monitor, stop)
        finally:
            monitor.close()
            _print_stats(arguments, monitor)
    return 0


def _pair(arguments: argparse.Namespace) -> NetkitPair:
    name = arguments.name
    if arguments.existing:
        try:
            return NetkitPair.open(name)
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise
            raise OSError(error.errno, f"there is no device {name} here; without --existing one is made") from None
    try:
        return NetkitPair.create(name, peer_name=arguments.peer_name, mode=arguments.mode or Mode.L3)
    except FileExistsError as error:
        if not _is_netkit(name):
            raise  # a stranger's
        raise FileExistsError(
            error.errno,
            f"{error.strerror}. Another monitor is running, or one was killed: watch the pair with"
            f" --existing --name {name}, or, if nobody needs it, remove it with: ip link delete {name}",
        ) from None


def _is_netkit(name: str) -> bool:
    try:
        NetkitPair.open(name)
    except (OSError, ValueError, LookupError):
        return False
    return True


def _announce(arguments: argparse.Namespace, pair: NetkitPair) -> None:
    name = pair.primary.name
    if arguments.existing:
        _note(f"watching {name}, {pair.mode}. Ctrl-C ends.")
        return
    primary, peer = pair.add_link_local()
    _note(
        f"made {name} ({primary.ip}) and {pair.peer.name} ({peer.ip}), {pair.mode}."
        f" Try: ping {peer.ip}%{name}   Ctrl-C ends and removes them."
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
        _note(str(monitor.stats))


def _note(text: str) -> None:
    """Write a diagnostic; to nowhere if there is no standard error, and never among the events."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            print(f"netkit-bpf: {text}", file=sys.stderr)


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
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"must be a whole number, 1 or more, not {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < float(text) < float("inf"):
            return float(text)
    raise argparse.ArgumentTypeError(f"must be a number of seconds, more than 0, not {text!r}")


class _Version(argparse.Action):
    """Looks the version up only when it is asked for: that takes longer than everything else at the start."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object, **__: object) -> None:
        from importlib.metadata import version

        print(f"netkit-bpf {version('netkit-bpf')}")
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="netkit-bpf", description="Linux netkit devices and their eBPF hooks.")
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    monitor = commands.add_parser(
        "monitor",
        help="print every packet on the hooks of a pair",
        description="Make a netkit pair with link-local addresses, print a line for every packet on its hooks, and"
        " remove it on Ctrl-C. Needs root.",
    )
    monitor.add_argument("--name", default="nk0", help="name of the primary (default: %(default)s)")
    monitor.add_argument("--peer-name", metavar="NAME", help="name of the peer (default: the primary's and a p)")
    monitor.add_argument("--mode", choices=("l2", "l3"), help="of the new pair (default: l3)")
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
    parser = _parser()
    arguments = parser.parse_args()
    if getattr(arguments, "existing", False) and (arguments.mode or arguments.peer_name):
        parser.error("--mode and --peer-name are of a new pair: they do not go with --existing")
    try:
        status: int = arguments.run(arguments)
    except KeyboardInterrupt:
        return 130  # before there was anything to end
    except BrokenPipeError:
        return 0  # whoever read our lines has enough
    except (OSError, ValueError, LookupError) as error:
        text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        _note(text)
        return 1
    return status
