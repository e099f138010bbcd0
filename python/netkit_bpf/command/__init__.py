# SPDX-License-Identifier: MIT
"""The command netkit-bpf: a surface of the package, with no logic of its own. Each subcommand has a module here."""

from __future__ import annotations

import argparse
import sys

from netkit_bpf.command import capture, completion, doctor, exporter, fw, lb, monitor, pair, reap, top, vm
from netkit_bpf.command.output import note, say_json
from netkit_bpf.command.programs import prog
from netkit_bpf.command.usage import Parser, error_line, is_json
from netkit_bpf.command.wireshark import extcap


class _Version(argparse.Action):
    """Looks up the version only when needed: that takes longer than the rest of the start."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object, **__: object) -> None:
        from importlib.metadata import version

        print(f"netkit-bpf {version('netkit-bpf')}")
        parser.exit()


_EXIT_STATUS = (
    "Exit status: 0; 1 for an error; 2 for wrong usage; 130 for Ctrl-C before anything was started. With -- COMMAND it"
    " is the command's own, or 128 and the number of the signal that ended it."
)


def make_parser() -> Parser:
    """The parser of the whole command; its manual page and what shells complete are made of it."""
    parser = Parser(prog="netkit-bpf", description="Linux netkit devices and their eBPF hooks.", epilog=_EXIT_STATUS)
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    monitor.add_to(commands)
    capture.add_to(commands)
    lb.add_to(commands)
    top.add_to(commands)
    exporter.add_to(commands)
    pair.add_to(commands)
    prog.add_to(commands)
    fw.add_to(commands)
    vm.add_to(commands)
    reap.add_to(commands)
    extcap.add_to(commands)
    completion.add_to(commands, make_parser)
    examine = commands.add_parser("doctor", help="list what this machine has and lacks, and what to do about it")
    examine.add_argument("--json", action="store_true", help="one JSON list, an object for each")
    examine.set_defaults(run=lambda arguments: doctor.main(as_json=arguments.json))
    parser.add_json()
    return parser


def _text(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


def main() -> int:
    """Run the command; returns its exit status: 0, 1 for an error, 2 for wrong usage, 130 for an early Ctrl-C."""
    line = sys.argv[1:]
    try:
        parser = make_parser()
        arguments = parser.parse_args(line)
        try:
            status: int = arguments.run(arguments)
        except argparse.ArgumentError as error:
            parser.error(str(error))
    except KeyboardInterrupt:
        return 130  # before anything was started
    except BrokenPipeError:
        return 0  # the reader of our output is gone
    except (OSError, ValueError, LookupError) as error:
        if is_json(line):
            say_json(error_line(_text(error), 1))
        else:
            note(_text(error))
        return 1
    return status
