# SPDX-License-Identifier: MIT
"""Wrong usage, told in two lines, and the kinds of values that several subcommands take."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn


class Parser(argparse.ArgumentParser):
    """Says what is wrong and where help is; argparse would print the whole usage first. So do its subparsers."""

    def error(self, message: str) -> NoReturn:
        """Print the message and end the process with status 2."""
        self.exit(2, f"{self.prog}: error: {message}\nTry '{self.prog} --help'.\n")

    def parse_known_args(  # type: ignore[override] # typeshed overloads it by the kind of namespace
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """Refuse here what argparse would hand up to the topmost parser, which knows less about it."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            is_word = not unknown[0].startswith("-") and len(unknown) > 1
            hint = f" (options begin with --, as --{unknown[0]})" if is_word else ""
            self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
        return found, unknown


def whole_number(text: str) -> int:
    """Parse how many of something, 1 or more."""
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


def add_limits(parser: argparse.ArgumentParser) -> None:
    """Add the options that end a subcommand which would go on until Ctrl-C."""
    parser.add_argument("-c", "--count", type=whole_number, metavar="N", help="end after N packets")
    parser.add_argument("--duration", type=seconds, metavar="S", help="end after S seconds")
