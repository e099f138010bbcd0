# SPDX-License-Identifier: MIT
"""netkit-bpf fw: load, show and take away the rules of a pair's firewall."""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from netkit_bpf.command.output import note, say, say_json
from netkit_bpf.command.packets.printer import json_line, stats_line
from netkit_bpf.command.packets.source import live
from netkit_bpf.command.selection import add_pair, chosen_pair, inhabitants
from netkit_bpf.command.signals import CHECK_EVERY, Stop, deletion_of, interrupt_on_signals
from netkit_bpf.command.usage import add_limits
from netkit_bpf.devices.pair import NetkitPair
from netkit_bpf.enums import Side
from netkit_bpf.firewall.ruleset import Ruleset
from netkit_bpf.functions.firewall import Firewall


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand, its own subcommands and their options."""
    parser = commands.add_parser(
        "fw",
        help="load, show, try and remove the rules of a firewall",
        description="Rules on the hooks of a pair, of which the first that matches a packet decides. A line of them"
        " reads: drop peer ip6 tcp from any to fd00::/64 port 12345. The manual has a page on it. Needs root.",
    )
    actions = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    load = _add(actions, "load", "put rules in force until Ctrl-C, or for good with --pin", _load)
    load.add_argument("file", nargs="?", metavar="FILE", help="the rules (default: -, standard input)")
    load.add_argument(
        "--default",
        choices=("pass", "drop"),
        help="what becomes of a packet that no rule matches (default: pass, or what it was; a blackhole drops it)",
    )
    load.add_argument(
        "--log-default",
        action=argparse.BooleanOptionalAction,
        help="make an event of each packet that no rule matches, as the word log does (default: no, or as it was)",
    )
    load.add_argument(
        "--established",
        action="store_true",
        help="pass what belongs to a connection that the rules let somebody open; with --pin that stays until flush",
    )
    load.add_argument(
        "--pin",
        action="store_true",
        help="return and leave the rules in force, in the place of those pinned before",
    )
    show = _add(actions, "show", "print the pinned rules, as they can be loaded again", _show)
    explain = _add(actions, "explain", "say which of the pinned rules decides what becomes of a packet", _explain)
    explain.add_argument("side", choices=[str(side) for side in Side], help="who sends it")
    explain.add_argument(
        "packet",
        nargs="+",
        metavar="WORD",
        help="as a rule would say it: tcp from fd00::2 port 1024 to fd00::1 port 22 flags S;"
        " or its bytes in hexadecimal, from the Ethernet header on",
    )
    counters = _add(actions, "counters", "print how many packets and bytes each pinned rule decided", _counters)
    events = _add(actions, "events", "print what the pinned rules that say log decide, packet by packet", _events)
    add_limits(events)
    _add(actions, "flush", "remove the pinned rules", _flush)
    for each in (show, explain, counters):
        each.add_argument("--json", action="store_true", help="one JSON object")
    events.add_argument("--json", action="store_true", help="one JSON object a line; the last has the counts")


def _add(
    actions: argparse._SubParsersAction[argparse.ArgumentParser], name: str, what: str, run: object
) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=what, description=f"{what[0].upper()}{what[1:]}. Needs root.")
    add_pair(parser, "the pair, by its primary or its peer", alone=name != "load")
    parser.add_argument("--pin-path", metavar="PATH", help="where the rules are pinned (default: in /sys/fs/bpf)")
    parser.set_defaults(run=run)
    return parser


def _load(arguments: argparse.Namespace) -> int:
    if inhabitants(arguments):  # the only positional argument is the file
        if arguments.file is not None:
            raise argparse.ArgumentError(None, f"--container and --pid say which pair: leave {arguments.name} out")
        arguments.file = arguments.name
    rules = _read(arguments.file or "-")
    if arguments.pin or arguments.pin_path:
        interrupt_on_signals()  # before they are in force the old ones stay, whatever it waits for
        with chosen_pair(arguments) as pair, _pinned(pair, rules, arguments) as firewall:
            note(f"{_number(rules)} in force on {pair.primary.name}, pinned at {firewall.pinned_at}")
        return 0
    # From here on what ends the command waits until the rules are in force or are not: none stays by half.
    signals = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    ends = {each for each in signals if signal.getsignal(each) is not signal.SIG_IGN}  # nohup(1)
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    with (
        chosen_pair(arguments) as pair,
        _made(pair, rules, arguments),
        deletion_of(pair, "firewall") as check,
    ):
        note(f"{_number(rules)} in force on {pair.primary.name}. Ctrl-C ends and removes them.")
        while signal.sigtimedwait(ends, CHECK_EVERY) is None:
            check()
    return 0


def _read(name: str) -> Ruleset:
    if name == "-" and sys.stdin is None:
        raise ValueError("there is no standard input: name a file")
    place = "standard input" if name == "-" else name
    try:
        return Ruleset.parse(sys.stdin.read() if name == "-" else Path(name).read_text())
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from None


def _pinned(pair: NetkitPair, rules: Ruleset, arguments: argparse.Namespace) -> Firewall:
    """The pair's pinned firewall with these rules, new or not."""
    return Firewall.replace_pinned(
        pair,
        rules,
        arguments.pin_path,
        default=arguments.default,
        log_default=arguments.log_default,
        established=arguments.established,
    )


def _made(pair: NetkitPair, rules: Ruleset, arguments: argparse.Namespace) -> Firewall:
    return Firewall(
        pair,
        rules,
        default=arguments.default or "pass",
        established=arguments.established,
        log_default=bool(arguments.log_default),
    )


@contextlib.contextmanager
def _opened(arguments: argparse.Namespace) -> Iterator[Firewall]:
    with chosen_pair(arguments) as pair, _opened_on(pair, arguments) as firewall:
        yield firewall


def _opened_on(pair: NetkitPair, arguments: argparse.Namespace) -> Firewall:
    try:
        return Firewall.open_pinned(pair, arguments.pin_path)
    except FileNotFoundError as error:
        advice = f"no firewall is pinned on {pair.primary.name}: see netkit-bpf fw load --help"
        raise FileNotFoundError(error.errno, advice) from None


def _show(arguments: argparse.Namespace) -> int:
    with _opened(arguments) as firewall:
        rules, default, log = firewall.rules, firewall.default, firewall.log_default
        established = firewall.established
        if arguments.json:
            sets = {name: list(map(str, networks)) for name, networks in rules.sets.items()}
            place = str(firewall.pinned_at)
            of_no_rule = {"default": default, "log_default": log, "established": established}
            say_json(json.dumps({**of_no_rule, "rules": _texts(rules), "sets": sets, "pinned_at": place}))
        else:
            others = f"{default}{' log' if log else ''}{'; established connections pass' if established else ''}"
            say(*str(rules).splitlines(), f"# what no rule matches: {others}")  # the lines that explain tells
    return 0


def _explain(arguments: argparse.Namespace) -> int:
    words = " ".join(arguments.packet)
    packet: bytes | str = words
    with contextlib.suppress(ValueError):
        packet = bytes.fromhex(words)
    with _opened(arguments) as firewall:
        try:
            found = firewall.explain(packet, arguments.side)
        except ValueError as error:
            if packet is words and str(error).startswith("line 1, column 1: expected"):  # no word: a wrong digit?
                raise ValueError(f"{error}\nor bytes in hexadecimal, from the Ethernet header on") from None
            raise
        if arguments.json:
            rule = None if found.rule is None else str(found.rule)
            say_json(json.dumps({"verdict": found.verdict, "number": found.number, "rule": rule}))
        else:
            say(str(found))
    return 0


def _counters(arguments: argparse.Namespace) -> int:
    with _opened(arguments) as firewall:
        counters = firewall.counters
        counted = [(str(rule), count) for rule, count in counters.items()]
        if arguments.json:
            rules = [{"rule": rule, **count._asdict()} for rule, count in counted]
            others = ("default", "established", "no_room")
            say_json(json.dumps({"rules": rules, **{name: getattr(counters, name)._asdict() for name in others}}))
        else:
            rows = [*counted, ("# what no rule matches", counters.default)]
            if firewall.established:
                rows.append(("# of established connections", counters.established))
                rows.append(("# no room for the connection", counters.no_room))
            say(
                f"{'packets':>12} {'bytes':>16} {'limited':>12}",
                *(f"{count.packets:12} {count.bytes:16} {count.limited:12}  {rule}" for rule, count in rows),
            )
    return 0


def _events(arguments: argparse.Namespace) -> int:
    stop = Stop()
    with (
        chosen_pair(arguments) as pair,
        _opened_on(pair, arguments) as firewall,
        deletion_of(pair, "firewall") as check,
    ):
        log = stop.monitor = firewall.log
        try:
            for verdicts in live(log, arguments, stop, check=check):
                if arguments.json:
                    say_json(*(json_line(each, "verdict") for each in verdicts))
                else:
                    say(*map(str, verdicts))
        finally:
            log.close()
            stop.monitor = None  # a handler of signals stays, and would keep the firewall
            if arguments.json:
                say_json(stats_line(log.stats))
            else:
                note(str(log.stats))
    return 0


def _flush(arguments: argparse.Namespace) -> int:
    with _opened(arguments) as firewall:
        firewall.unpin()
    return 0


def _texts(rules: Ruleset) -> list[str]:
    return [str(rule) for rule in rules]


def _number(rules: Ruleset) -> str:
    return "1 rule is" if len(rules) == 1 else f"{len(rules)} rules are"
