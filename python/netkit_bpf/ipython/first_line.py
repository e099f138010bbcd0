# SPDX-License-Identifier: MIT
"""What follows a magic's name."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable
from typing import Any

from IPython.core.error import UsageError
from IPython.core.magic_arguments import parse_argstring


def arguments_of(magic: Callable[..., Any], line: str) -> argparse.Namespace:
    """The magic's arguments; UsageError if the line is not what it takes."""
    try:
        found: argparse.Namespace = parse_argstring(magic, line)
    except ValueError:
        raise UsageError(f"a quote is not closed: {line.strip()}") from None
    return found


def words(text: str) -> list[str]:
    """The words of an argument, as a shell takes them; UsageError if that is nothing."""
    try:
        return shlex.split(unquoted(text))
    except ValueError:
        raise UsageError(f"a quote is not closed: {text}") from None


def unquoted(word: str) -> str:
    """The word as a shell takes it: IPython's parser leaves quotes where they are."""
    return word[1:-1] if len(word) > 1 and word[0] == word[-1] and word[0] in "'\"" else word
