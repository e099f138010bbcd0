# SPDX-License-Identifier: MIT
"""Usage errors in two lines, and types of values that several subcommands take."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
from collections.abc import Sequence
from typing import Any, NoReturn

from netkit_bpf.command.output import say_json


class Parser(argparse.ArgumentParser):
    """Prints what is wrong and how to get help, not the whole usage, as argparse does. So do its subparsers."""

    def __init__(self, *args: Any, **options: Any) -> None:
        options.setdefault("allow_abbrev", False)  # a script's abbreviation would be another option's one day
        super().__init__(*args, **options)
        self._actions_below: argparse._SubParsersAction[Parser] | None = None
        self._is_json = False  # what it is just parsing

    def add_subparsers(self, **options: Any) -> Any:
        """Remember them, for `add_json`."""
        self._actions_below = super().add_subparsers(**options)
        return self._actions_below

    def add_json(self) -> None:
        """Add --json to each subcommand that has none of its own."""
        if self._actions_below is not None:
            for each in dict.fromkeys(self._actions_below.choices.values()):
                each.add_json()
        else:
            with contextlib.suppress(argparse.ArgumentError):  # has its own
                self.add_argument("--json", action="store_true", help='an error as a JSON object, of type "error"')

    def print_help(self, file: Any = None) -> None:
        """Print the help; raises what `say` raises, where argparse would take a full disk for a success."""
        if file is not None:
            super().print_help(file)
        else:
            say_json(self.format_help().removesuffix("\n"))

    def error(self, message: str) -> NoReturn:
        """Print the message and end the process with status 2."""
        if self._is_json:
            say_json(error_line(message, 2))
            self.exit(2)
        self.exit(2, f"{self.prog}: error: {message}\nTry '{self.prog} --help'.\n")

    def parse_known_args(  # type: ignore[override] # typeshed overloads it by the kind of namespace
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """Refuse unknown arguments here: argparse would leave them to the top parser, which knows less about them."""
        line, command = split(args or ())
        takes_words = self.get_default("takes_words")
        self._is_json = is_json(line)
        found, unknown = super().parse_known_args(line if takes_words else args, namespace)
        if takes_words:  # wherever they stand, as getopt(3) finds them
            found.command = command
            found.expression = [each for each in unknown if not each.startswith("-") or each == "-"]
            unknown = [each for each in unknown if each not in found.expression]
        if unknown:
            is_word = not unknown[0].startswith("-") and len(unknown) > 1
            hint = f" (options begin with --, as --{unknown[0]})" if is_word else ""
            self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
        return found, unknown


def split(line: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split a command line at --: no options stand behind it, perhaps a command."""
    at = line.index("--") if "--" in line else len(line)
    return list(line[:at]), list(line[at + 1 :])


def is_json(line: Sequence[str]) -> bool:
    """Whether a command line asks for JSON."""
    line, _ = split(line)
    return "--json" in line or "--format=json" in line or ("--format", "json") in itertools.pairwise(line)


def error_line(message: str, status: int) -> str:
    """Describe an error as a JSON line of the command; each line has a type."""
    return json.dumps({"type": "error", "message": message, "status": status})


def whole_number(text: str) -> int:
    """Parse a number of things, 1 or more."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"must be a whole number, 1 or more, not {text!r}")
    return int(text)


def seconds(text: str) -> float:
    """Parse a duration."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number of seconds, more than 0, not {text!r}")
    return value


def add_limits(parser: argparse._ActionsContainer, count: Sequence[str] = ("-c", "--count")) -> None:
    """Add the options that end a subcommand which otherwise runs until Ctrl-C."""
    parser.add_argument(*count, dest="count", type=whole_number, metavar="N", help="end after N packets")
    parser.add_argument("--duration", type=seconds, metavar="S", help="end after S seconds")
