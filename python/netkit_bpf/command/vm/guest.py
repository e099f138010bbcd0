# SPDX-License-Identifier: MIT
"""The options that all guests have, and what becomes of them."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

from netkit_bpf.command.usage import whole_number
from netkit_bpf.vm.words import DEFAULT, GUEST_ADDRESS, PLACES, SHARE_IN_GUEST

FOR_EVER = 1e6  # seconds


def add_machine(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "--kernel",
        default=DEFAULT,
        metavar="K",
        help=f"a series, as {', '.join(PLACES)} (default: {DEFAULT}), or the path of a boot image",
    )
    parser.add_argument(
        "--share", type=Path, metavar="DIR", help=f"a directory that the guest can write to, also as {SHARE_IN_GUEST}"
    )
    parser.add_argument("--memory", type=_size, default="2G", metavar="SIZE", help="of the guest (default: 2G)")
    parser.add_argument("--cpus", type=whole_number, default=2, metavar="N", help="of the guest (default: 2)")
    parser.add_argument("--env", action="append", default=[], metavar="NAME[=VALUE]", help="pass a variable to COMMAND")
    parser.add_argument("--module", action="append", default=[], metavar="NAME", help="load a kernel module first")
    parser.add_argument(
        "--publish",
        action="append",
        type=_ports,
        default=[],
        metavar="[HERE:]THERE",
        help=f"lead a TCP port of 127.0.0.1 here to one of the guest, where the server listens on {GUEST_ADDRESS}",
    )
    parser.add_argument("--console", type=Path, metavar="FILE", help="keep the kernel's messages here")


def _ports(text: str) -> tuple[int, int]:
    here, _, there = text.rpartition(":")
    try:
        return port_number(here or there), port_number(there)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"must be a port or two, as 8888 or 9999:8888, not {text!r}") from None


def port_number(text: str) -> int:
    """The number of a TCP port."""
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        raise argparse.ArgumentTypeError(f"must be a port, 1 to 65535, not {text!r}")
    return int(text)


def _size(text: str) -> str:
    if not re.fullmatch("[1-9][0-9]*[MG]", text):
        raise argparse.ArgumentTypeError(f"must be a number of mebibytes or gibibytes, as 512M or 2G, not {text!r}")
    return text


def boot(arguments: argparse.Namespace, command: list[str], **options: Any) -> int:
    """Run a command in a guest with these options."""
    from netkit_bpf.vm.runner import Order, run  # it takes long to import

    names = ("kernel", "share", "memory", "cpus", "env", "module", "publish", "console")
    return run(Order(command, **{name: getattr(arguments, name) for name in names}, **options))
