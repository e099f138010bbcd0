# SPDX-License-Identifier: MIT
"""netkit-bpf monitor: print every packet on the hooks of a pair."""

from __future__ import annotations

import argparse
import errno
import json
import sys
import time
import warnings
from contextlib import ExitStack

from netkit_bpf.command.output import note, say, say_json
from netkit_bpf.command.selection import add_option, netns_of
from netkit_bpf.command.signals import Stop
from netkit_bpf.command.usage import add_limits
from netkit_bpf.devices.netns import NetNS
from netkit_bpf.devices.pair import NetkitPair
from netkit_bpf.devices.reap import in_kernels_words, orphans
from netkit_bpf.enums import Mode
from netkit_bpf.errors import NotAPairError
from netkit_bpf.events.event import PacketEvent
from netkit_bpf.functions.monitor import Monitor

_MOST_LINES = 1024  # at once, so that they do not come in jerks


def _monitor(arguments: argparse.Namespace) -> int:
    warnings.showwarning = _show_warning
    stop = Stop()
    if sys.stdout is not None:
        stop.output = sys.stdout.fileno()
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


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    """Say it as the command says everything else, without the place in Python where it arose."""
    note(str(message))


def _pair(arguments: argparse.Namespace) -> NetkitPair:
    name = arguments.name
    netns = netns_of(arguments) or NetNS.current()
    if arguments.existing:
        try:
            return NetkitPair.open(name, netns)
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise
            raise OSError(error.errno, f"there is no device {name} here; without --existing one is made") from None
    try:
        return NetkitPair.create(name, peer_name=arguments.peer_name, mode=arguments.mode or Mode.L3, netns=netns)
    except FileExistsError as error:
        refused = in_kernels_words(error)
        if not _is_netkit(name, netns):
            raise refused from None  # a stranger's
        if any(orphan.name == name for orphan in orphans(netns)):
            advice = "whoever made it was killed: remove it with netkit-bpf reap"
        else:
            advice = (
                f"watch that pair with --existing --name {name}, or, if nobody needs it, remove it with"
                f" netkit-bpf pair delete {name}"
            )
        raise FileExistsError(error.errno, f"{refused.strerror}: {advice}") from None


def _is_netkit(name: str, netns: NetNS) -> bool:
    try:
        NetkitPair.open(name, netns)
    except (OSError, NotAPairError):
        return False
    return True


def _announce(arguments: argparse.Namespace, pair: NetkitPair) -> None:
    name = pair.primary.name
    if arguments.existing:
        note(f"watching {name}, {pair.mode}. Ctrl-C ends.")
        return
    primary, peer = pair.add_link_local()
    note(
        f"made {name} ({primary.ip}) and {pair.peer.name} ({peer.ip}), {pair.mode}."
        f" Try{' there' if arguments.netns else ''}: ping {peer.ip}%{name}   Ctrl-C ends and removes them."
    )


def _print_events(arguments: argparse.Namespace, monitor: Monitor, stop: Stop) -> None:
    """Say what waits at once: under load a line's own system call would take ten times as long as the line."""
    end = None if arguments.duration is None else time.monotonic() + arguments.duration
    left = arguments.count
    while not stop.requested and left != 0:
        rest = None if end is None else end - time.monotonic()
        if rest is not None and rest <= 0:
            return
        try:
            events = monitor.read_batch(_MOST_LINES if left is None else min(left, _MOST_LINES), rest)
        except ValueError:
            return  # closed by a signal just before
        if not events:
            return
        if arguments.json:
            say_json(*map(_json, events))
        else:
            say(*map(str, events))
        if left is not None:
            left -= len(events)


def _print_stats(arguments: argparse.Namespace, monitor: Monitor) -> None:
    if arguments.json:
        stats = monitor.stats
        sides = {side: each._asdict() for side, each in stats._asdict().items()}
        say_json(json.dumps({"type": "stats", **sides, "reading": stats.reading._asdict()}))
    else:
        note(str(monitor.stats))


def _json(event: PacketEvent) -> str:
    """The event as a line of the command's, each of which says what it is."""
    return f'{{"type": "event", {event.to_json()[1:]}'


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand and its options."""
    parser = commands.add_parser(
        "monitor",
        help="print every packet on the hooks of a pair",
        description="Make a netkit pair with link-local addresses, print a line for every packet on its hooks, and"
        " remove it on Ctrl-C. Needs root.",
    )
    parser.add_argument("--name", default="nk0", help="name of the primary (default: %(default)s)")
    add_option(parser, short=())
    parser.add_argument("--peer-name", metavar="NAME", help="name of the peer (default: the primary's and a p)")
    parser.add_argument("--mode", choices=("l2", "l3"), help="of the new pair (default: l3)")
    parser.add_argument(
        "--existing", action="store_true", help="watch the pair NAME that is there, and leave it as it is"
    )
    add_limits(parser)
    help_ = 'a JSON object a line, of type "event"; at last one of type "stats", with the loss counts'
    parser.add_argument("--json", action="store_true", help=help_)

    def run(arguments: argparse.Namespace) -> int:
        if arguments.existing and (arguments.mode or arguments.peer_name):
            parser.error("--mode and --peer-name are of a new pair: they do not go with --existing")
        return _monitor(arguments)

    parser.set_defaults(run=run)
