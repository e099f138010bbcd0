# SPDX-License-Identifier: MIT
"""The command netkit-bpf: a surface of the package, with no logic of its own. Each subcommand has a module here."""

from __future__ import annotations

import argparse

from netkit_bpf.command import capture, doctor, monitor, pair, reap
from netkit_bpf.command.output import note
from netkit_bpf.command.usage import Parser


class _Version(argparse.Action):
    """Looks the version up only when it is asked for: that takes longer than everything else at the start."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object, **__: object) -> None:
        from importlib.metadata import version

        print(f"netkit-bpf {version('netkit-bpf')}")
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = Parser(
        prog="netkit-bpf", description="Linux netkit devices and their eBPF hooks."
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    monitor.add_to(commands)
    capture.add_to(commands)
    pair.add_to(commands)
    reap.add_to(commands)
    examine = commands.add_parser("doctor", help="say what this machine has and lacks, and what to do about it")
    examine.set_defaults(run=lambda _: doctor.main())
    return parser


def _text(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


def main() -> int:
    """Run the command; returns its exit status: 0, 1 for an error, 2 for wrong usage, 130 for an early Ctrl-C."""
    try:
        arguments = _parser().parse_args()
        status: int = arguments.run(arguments)
    except KeyboardInterrupt:
        return 130  # before there was anything to end
    except BrokenPipeError:
        return 0  # whoever read our lines has enough
    except (OSError, ValueError, LookupError) as error:
        note(_text(error))
        return 1
    return status
