# SPDX-License-Identifier: MIT
"""What -w writes to: a file, one file after the other, or standard output."""

from __future__ import annotations

import argparse
import io
import os
import pwd
import sys
from contextlib import ExitStack
from typing import BinaryIO, cast

from netkit_bpf.events.files.rotated_file import RotatedFile
from netkit_bpf.events.pcapng_file import BlockFile

Target = BlockFile | BinaryIO


def open_target(arguments: argparse.Namespace, cleanup: ExitStack) -> Target | None:
    """Open what -w names; None without it. Standard output is written through a descriptor of its own."""
    if arguments.file is None:
        return None
    if arguments.file == "-":
        return cast("BinaryIO", cleanup.enter_context(_output()))
    if arguments.size is None and arguments.seconds is None:
        return cleanup.enter_context(BlockFile(arguments.file))
    size = None if arguments.size is None else arguments.size * 10**6
    rotated = RotatedFile(arguments.file, size=size, seconds=arguments.seconds, files=arguments.files)
    return cast("BinaryIO", cleanup.enter_context(rotated))


def _output() -> io.FileIO:
    """A separate file on standard output: Python's own would try again to write what could not be written."""
    if sys.stdout is None:
        raise ValueError("-w -: there is no standard output")
    if sys.stdout.isatty():
        raise ValueError("-w -: standard output is a terminal: pipe it, or name a file")
    output = io.FileIO(os.dup(sys.stdout.fileno()), "w")
    output.name = "standard output"  # in errors
    return output


def become(user: str) -> None:
    """Give up all privileges for those of a user: this process can do nothing else to the kernel afterwards."""
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise LookupError(f"-Z: there is no user {user}") from None
    os.initgroups(entry.pw_name, entry.pw_gid)
    os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
    os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)
