# SPDX-License-Identifier: MIT
"""Releases of kernels, as uname(2) gives them, and their numbers."""

from __future__ import annotations

import os
import re


def running() -> str:
    """The release of the running kernel."""
    return os.uname().release


def numbers(release: str) -> tuple[int, int, int] | None:
    """The numbers of a release, (7, 1, 0) of "7.1+deb14-amd64"; None if it does not begin with two.

    The text behind the numbers, which distributions add, does not count.
    """
    found = re.match(r"([0-9]+)\.([0-9]+)(?:\.([0-9]+))?", release)
    return None if found is None else (int(found[1]), int(found[2]), int(found[3] or 0))


def is_at_least(wanted: str, release: str | None = None) -> bool:
    """Whether a release, by default that of the running kernel, is at least `wanted`: "6.14", "6.12.4".

    A release without numbers counts as older than any other.
    """
    return (numbers(running() if release is None else release) or (0, 0, 0)) >= (numbers(wanted) or (0, 0, 0))
