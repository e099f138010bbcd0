# SPDX-License-Identifier: MIT
"""The command netkit-bpf: a surface of the package, with no logic of its own. Each subcommand has a module here."""

from __future__ import annotations

import argparse

from netkit_bpf.command import capture, doctor, monitor, pair, reap
from netkit_bpf.command.output import note


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
    monitor.add_to(commands)
    capture.add_to(commands)
    pair.add_to(commands)
    reap.add_to(commands)
    examine = commands.add_parser("doctor", help="say what this machine has and lacks, and what to do about it")
    examine.set_defaults(run=lambda _: doctor.main())
    _remember(parser)
    return parser


def _remember(parser: argparse.ArgumentParser) -> None:
    """Have each subcommand tell whose it is, so that its own usage stands above its errors."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for each in action.choices.values():
                each.set_defaults(parser=each)
                _remember(each)


def _text(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


def main() -> int:
    """Run the command; returns its exit status: 0, 1 for an error, 2 for wrong usage, 130 for an early Ctrl-C."""
    arguments, unknown = _parser().parse_known_args()
    chosen: argparse.ArgumentParser = vars(arguments).pop("parser")
    if unknown:
        hint = "" if unknown[0].startswith("-") else f" (options begin with --, as --{unknown[0]})"
        chosen.error(f"unrecognized arguments: {' '.join(unknown)}{hint if len(unknown) > 1 else ''}")
    try:
        status: int = arguments.run(arguments)
    except KeyboardInterrupt:
        return 130  # before there was anything to end
    except BrokenPipeError:
        return 0  # whoever read our lines has enough
    except (OSError, ValueError, LookupError) as error:
        note(_text(error))
        return 1
    return status
