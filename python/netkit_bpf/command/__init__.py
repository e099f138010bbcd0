# SPDX-License-Identifier: MIT
"""The command netkit-bpf: a surface of the package, with no logic of its own. Each subcommand has a module here."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from netkit_bpf.command.output import OutputError, note, say_json, show_warnings
from netkit_bpf.command.usage import Parser, error_line, is_json

# The module of each, in the order of the help; each has `add_to`.
_MODULES = {
    "monitor": "monitor",
    "capture": "capture",
    "lb": "lb",
    "top": "top",
    "exporter": "exporter",
    "pair": "pair",
    "prog": "programs.prog",
    "fw": "fw",
    "vm": "vm",
    "reap": "reap",
    "extcap": "wireshark.extcap",
    "completion": "completion",
    "doctor": "doctor",
}


class _Version(argparse.Action):
    """Looks up the version only when needed: that takes longer than the rest of the start."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object, **__: object) -> None:
        from importlib.metadata import version

        print(f"netkit-bpf {version('netkit-bpf')}")
        parser.exit()


_EXIT_STATUS = (
    "Exit status: 0; 1 for an error; 2 for wrong usage; 130 for Ctrl-C before anything was started. With -- COMMAND it"
    " is the command's own, or 128 and the number of the signal that ended it; 0 where a limit as -c ended it."
)


def make_parser(line: Sequence[str] = ()) -> Parser:
    """The parser of the whole command, of which the manual page and what shells complete are made.

    For a `line` that begins with a subcommand it knows no other: to import all takes as long as the package itself.
    """
    parser = Parser(prog="netkit-bpf", description="Linux netkit devices and their eBPF hooks.", epilog=_EXIT_STATUS)
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name in line[:1] if line and line[0] in _MODULES else _MODULES:
        import_module(f"netkit_bpf.command.{_MODULES[name]}").add_to(commands)
    parser.add_json()
    return parser


def _text(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


def main() -> int:
    """Run the command; returns its exit status: 0, 1 for an error, 2 for wrong usage, 130 for an early Ctrl-C."""
    line = sys.argv[1:]
    show_warnings()
    try:
        parser = make_parser(line)
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
        if is_json(line) and not isinstance(error, OutputError):
            say_json(error_line(_text(error), 1))
        else:
            note(_text(error))
        return 1
    return status
