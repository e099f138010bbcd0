# SPDX-License-Identifier: MIT
"""netkit-bpf lb: balance the connections to a virtual address over pairs, for as long as the command runs."""

from __future__ import annotations

import argparse
import json
import os
import select
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from netkit_bpf.command.output import note, say, say_json
from netkit_bpf.command.selection import add_pair, chosen_pair, open_pair
from netkit_bpf.command.signals import CHECK_EVERY, deletion_of, interrupt_on_signals
from netkit_bpf.command.usage import seconds
from netkit_bpf.functions.backend import Backend, BackendStats
from netkit_bpf.functions.balancer import LoadBalancer

_KEYS = ("weight", "address", "port")
_HEAD = f"{'backend':15} {'state':8} {'share':>6} {'open':>8} {'connections':>11} {'packets':>10} {'replies':>10}"


def _lb(arguments: argparse.Namespace) -> int:
    interrupt_on_signals()
    backends = {}
    for text in arguments.backend:
        backend, weight = _backend(text, arguments)
        backends[backend] = weight
    pair = chosen_pair(arguments)
    with LoadBalancer(
        pair, arguments.vip, arguments.port, protocol=arguments.protocol,
        mode=arguments.mode, backends=backends,
    ) as balancer, deletion_of(pair, "load balancer") as check:  # fmt: skip
        note(f"{balancer!r}. Lines of input: add, drain, remove NAME, show. Ctrl-C ends.")
        try:
            for line in _lines(arguments.interval):
                check()
                if line:
                    _obey(balancer, line, arguments)
                else:
                    with suppress(OSError):  # a backend's pair is being deleted: in a second it is
                        balancer.check()
        except KeyboardInterrupt:
            pass
        finally:
            _show(balancer, arguments)
    return 0


def _lines(interval: float | None) -> Iterator[str]:
    """Lines of standard input, "show" every `interval`, and "" every second. Without an input it goes on for ever."""
    source = [] if sys.stdin is None else [sys.stdin.fileno()]
    rest = b""
    shown = time.monotonic()
    while True:
        if interval is not None and time.monotonic() >= shown + interval:
            shown = time.monotonic()
            yield "show"
        left = CHECK_EVERY if interval is None else min(shown + interval - time.monotonic(), CHECK_EVERY)
        if not select.select(source, [], [], max(left, 0))[0]:
            yield ""
        elif read := os.read(source[0], 4096):
            *lines, rest = (rest + read).split(b"\n")
            yield from (line.decode(errors="replace") for line in lines if line)
        else:
            source = []
            if rest:  # no newline ends it
                yield rest.decode(errors="replace")


def _obey(balancer: LoadBalancer, line: str, arguments: argparse.Namespace) -> None:
    """Do what a line says; an error is told, and changes nothing."""
    word, _, rest = line.strip().partition(" ")
    actions: dict[str, Callable[[Backend, int], object]] = {
        "add": balancer.add,
        "drain": lambda backend, _: balancer.drain(backend),
        "remove": lambda backend, _: balancer.remove(backend),
    }
    try:
        if word in actions:
            actions[word](*_backend(rest.strip(), arguments))
        elif word == "show":
            _show(balancer, arguments)
        elif word:
            note(f"{word!r} is not add, drain, remove or show")
    except (OSError, ValueError, LookupError) as error:
        note(f"{word}: {error.args[-1] if isinstance(error, OSError) else error}")


def _backend(text: str, arguments: argparse.Namespace) -> tuple[Backend, int]:
    """Parse NAME[,weight=N][,address=ADDRESS][,port=N]."""
    name, *options = text.split(",")
    given: dict[str, str] = {}
    for option in options:
        key, equals, value = option.partition("=")
        if not equals or key not in _KEYS or key in given:
            raise ValueError(f"backend {text!r}: {option!r} must be weight=N, address=ADDRESS or port=N, each once")
        given[key] = value
    port = _number(given["port"], "port", text) if "port" in given else None
    weight = _number(given.get("weight", "1"), "weight", text)
    return Backend(open_pair(name, arguments), given.get("address"), port), weight


def _number(text: str, key: str, whole: str) -> int:
    if not text.isdecimal():
        raise ValueError(f"backend {whole!r}: {key} must be a whole number, not {text!r}")
    return int(text)


def _show(balancer: LoadBalancer, arguments: argparse.Namespace) -> None:
    stats = balancer.stats._asdict()
    if arguments.json:
        say_json(json.dumps({"backends": [_fields(each) for each in balancer.backends], **stats}))
        return
    said = ", ".join(f"{key.replace('_', ' ')} {count}" for key, count in stats.items() if count)
    say(_HEAD, *map(_row, balancer.backends), *([said] if said else []))


def _row(each: BackendStats) -> str:
    return (
        f"{each.name:15} {each.state:8} {each.share:6.1%} {each.open:8} {each.connections:11} {each.packets:10}"
        f" {each.reply_packets:10}"
    )


def _fields(each: BackendStats) -> dict[str, Any]:
    backend = each.backend
    return {
        "backend": each.name,
        "address": str(backend.address),
        "port": backend.port,
        **{key: value for key, value in each._asdict().items() if key not in ("backend", "name")},
    }


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand and its options."""
    parser = commands.add_parser(
        "lb",
        help="balance connections over pairs",
        description="Send what the clients behind a pair send to a virtual address to backends, for as long as the"
        " command runs. It takes lines of input: add BACKEND, drain NAME, remove NAME, show. Needs root.",
    )
    add_pair(parser, "the clients' pair, by its primary")
    parser.add_argument("--vip", required=True, metavar="ADDRESS", help="the virtual address: of IPv4 or IPv6")
    parser.add_argument("--port", required=True, type=int, metavar="N", help="the service's port")
    parser.add_argument("--protocol", choices=["tcp", "udp"], default="tcp", help="default: tcp")
    parser.add_argument(
        "--mode",
        choices=["nat", "dsr"],
        default="nat",
        help="nat: packets get the backend's address (default); dsr: backends have the virtual address themselves",
    )
    parser.add_argument(
        "--backend",
        action="append",
        default=[],
        metavar="BACKEND",
        help="a backend's pair, by its primary: NAME[,weight=N][,address=ADDRESS][,port=N]; several may be",
    )
    parser.add_argument("--interval", type=seconds, metavar="S", help="show the counters every S seconds")
    parser.add_argument("--json", action="store_true", help="show them as JSON, an object on each line")
    parser.set_defaults(run=_lb)
