# SPDX-License-Identifier: MIT
"""netkit-bpf vm: run commands under another kernel, in a virtual machine that sees this machine's files."""

from __future__ import annotations

import argparse
import json
import os

from netkit_bpf import vm
from netkit_bpf.command.output import say, say_json
from netkit_bpf.command.usage import seconds
from netkit_bpf.command.vm import jupyter
from netkit_bpf.command.vm.guest import FOR_EVER, add_machine, boot
from netkit_bpf.vm.words import DIED, NO_BOOT, PLACES, SPLAT, TIME_OUT


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
    jupyter.add_to(actions)
    _add_kernels(actions)
    _add_kept(actions)


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
    add_machine(parser)
    parser.add_argument(
        "--timeout", type=seconds, default=300.0, metavar="S", help="for the command, from its start (default: 300)"
    )
    parser.add_argument("--watch", type=int, metavar="PID", help=argparse.SUPPRESS)  # ends with this process
    parser.set_defaults(run=_run, takes_words=True)


def _run(arguments: argparse.Namespace) -> int:
    if arguments.expression or not arguments.command:
        raise argparse.ArgumentError(None, "the COMMAND stands after --, as in: vm run -- uname -r")
    return boot(arguments, arguments.command, timeout=arguments.timeout, watched=arguments.watch)


def _add_shell(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = actions.add_parser(
        "shell",
        help="a shell on this terminal",
        description="Work under another kernel, on this machine's files; what is changed of them is discarded at the"
        " end. Needs root, or sudo.",
    )
    add_machine(parser)
    parser.set_defaults(run=_shell)


def _shell(arguments: argparse.Namespace) -> int:
    shell = os.environ.get("SHELL") or "/bin/sh"
    return boot(arguments, [shell], timeout=FOR_EVER, terminal=True)


def _add_kernels(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = actions.add_parser("kernels", help="list the kernels that are known and downloaded")
    parser.add_argument("--fetch", metavar="K", help="download this one")
    parser.add_argument("--json", action="store_true", help="one JSON list, an object for each")
    parser.set_defaults(run=_kernels)


def _kernels(arguments: argparse.Namespace) -> int:
    if arguments.fetch:
        vm.get(arguments.fetch)
    have = {kernel.name: kernel.release for kernel in vm.cached()}
    every = sorted({*PLACES, *have}, key=lambda name: [int(part) for part in name.partition("-")[0].split(".")])
    if arguments.json:
        say_json(json.dumps([{"kernel": series, "release": have.get(series)} for series in every]))
    else:
        say(*(f"{series:9} {have.get(series, 'not downloaded')}" for series in every))
    return 0


def _add_kept(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = actions.add_parser(
        "kept", help="list the virtual machines that pytest --netkit-keep has left for the next run"
    )
    parser.add_argument("--end", action="store_true", help="end them, but those in which tests run")
    parser.set_defaults(run=_kept)


def _kept(arguments: argparse.Namespace) -> int:
    from netkit_bpf.vm import kept  # it takes long to import

    for state in kept.states(end=arguments.end):
        say(state)
    return 0
