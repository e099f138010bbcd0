# SPDX-License-Identifier: MIT
"""Paths of what is pinned."""

from __future__ import annotations

import os

from netkit_bpf.internal.arguments import expect_text


def pin_path(path: str | os.PathLike[str]) -> str:
    """The path as a str; TypeError or ValueError if it is not a path, or not UTF-8."""
    text = os.fspath(path) if isinstance(path, (str, os.PathLike)) else path
    if not isinstance(text, str):
        raise TypeError(f"path must be a path, not {type(path).__name__}")
    if not text or "\0" in text:
        raise ValueError(f"{text!r} is not a path")
    return expect_text(text, "path")
