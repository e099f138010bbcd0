# SPDX-License-Identifier: MIT
"""netkit-bpf vm: run commands under another kernel, in a virtual machine that sees this machine's files."""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path
from typing import Any

from netkit_bpf import vm
from netkit_bpf.command.output import say
from netkit_bpf.command.usage import seconds, whole_number
from netkit_bpf.vm.words import DEFAULT, DIED, NO_BOOT, PLACES, SHARE_IN_GUEST, SPLAT, TIME_OUT

_FOR_EVER = 1e6  # seconds


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand, its own subcommands and their options."""
    parser = commands.add_parser(
        "vm",
        help="run commands under a kernel that has netkit, in a virtual machine",
        description="Run commands under another kernel, in a virtual machine that sees this machine's files.",
    )
    actions = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_run(actions)
    _add_shell(actions)
    _add_kernels(actions)


def _add_run(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = actions.add_parser(
        "run",
        usage="%(prog)s [options] -- COMMAND...",
        help="run a command",
        description="Run COMMAND in a virtual machine on this machine's files, with its standard input and output; its"
        " changes to them are discarded. Needs root, or sudo.",
        epilog="The exit status is the command's. "
        f"{SPLAT}: the command succeeded, but the kernel complained. {TIME_OUT}: time-out. "
        f"{DIED}: the guest died. {NO_BOOT}: it never booted, or could not be started. ",
    )
    _add_machine(parser)
    parser.add_argument(
        "--timeout", type=seconds, default=300.0, metavar="S", help="for the command, from its start (default: 300)"
    )
    parser.add_argument("--watch", type=int, metavar="PID", help=argparse.SUPPRESS)  # ends with this process
    parser.set_defaults(run=_run, takes_words=True)


def _add_machine(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--kernel",
        default=DEFAULT,
        metavar="K",
        help=f"a series, as {', '.join(PLACES)} (default: {DEFAULT}), or the path of a boot image",
    )
    parser.add_argument(
        "--share", type=Path, metavar="DIR", help=f"a directory that the guest can write to, also as {SHARE_IN_GUEST}"
    )
    parser.add_argument("--memory", type=_size, default="2G", metavar="SIZE", help="of the guest (default: 2G)")
    parser.add_argument("--cpus", type=whole_number, default=2, metavar="N", help="of the guest (default: 2)")
    parser.add_argument("--env", action="append", default=[], metavar="NAME[=VALUE]", help="pass a variable to COMMAND")
    parser.add_argument("--module", action="append", default=[], metavar="NAME", help="load a kernel module first")
    parser.add_argument("--console", type=Path, metavar="FILE", help="keep the kernel's messages here")


def _size(text: str) -> str:
    if not re.fullmatch("[1-9][0-9]*[MG]", text):
        raise argparse.ArgumentTypeError(f"must be a number of mebibytes or gibibytes, as 512M or 2G, not {text!r}")
    return text


def _run(arguments: argparse.Namespace) -> int:
    if arguments.expression or not arguments.command:
        raise argparse.ArgumentError(None, "the COMMAND stands after --, as in: vm run -- uname -r")
    return _do(arguments, arguments.command, timeout=arguments.timeout, watched=arguments.watch)


def _add_shell(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = actions.add_parser(
        "shell",
        help="a shell on this terminal",
        description="Work under another kernel, on this machine's files; what is changed of them is discarded at the"
        " end. Needs root, or sudo.",
    )
    _add_machine(parser)
    parser.set_defaults(run=_shell)


def _shell(arguments: argparse.Namespace) -> int:
    shell = os.environ.get("SHELL") or "/bin/sh"
    return _do(arguments, [shell], timeout=_FOR_EVER, terminal=True)


def _do(arguments: argparse.Namespace, command: list[str], **options: Any) -> int:
    from netkit_bpf.vm.runner import Order, run  # it takes long to import

    names = ("kernel", "share", "memory", "cpus", "env", "module", "console")
    return run(Order(command, **{name: getattr(arguments, name) for name in names}, **options))


def _add_kernels(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = actions.add_parser("kernels", help="list the kernels that are known and downloaded")
    parser.add_argument("--fetch", metavar="K", help="download this one")
    parser.set_defaults(run=_kernels)


def _kernels(arguments: argparse.Namespace) -> int:
    if arguments.fetch:
        vm.get(arguments.fetch)
    have = {kernel.name: kernel.release for kernel in vm.cached()}
    for series in sorted({*PLACES, *have}, key=lambda name: [int(part) for part in name.partition("-")[0].split(".")]):
        say(f"{series:9} {have.get(series, 'not downloaded')}")
    return 0
