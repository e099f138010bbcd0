# SPDX-License-Identifier: MIT
"""What the command line names: namespaces, as ip-link(8) takes them, pairs and single devices."""

from __future__ import annotations

import argparse
import contextlib
import errno
from collections.abc import Iterator

from netkit_bpf.devices.netkit_device import NetkitDevice
from netkit_bpf.devices.netns import NetNS
from netkit_bpf.devices.pair import NetkitPair


def add_option(parser: argparse.ArgumentParser, default: str = "this one", short: tuple[str, ...] = ("-n",)) -> None:
    """Add the option that says where to work, which is the same for all subcommands."""
    parser.add_argument(
        *short,
        "--netns",
        metavar="NETNS",
        help=f"the network namespace to work in, by name, path or process id (default: {default})",
    )


def netns_of(arguments: argparse.Namespace) -> NetNS | None:
    """The namespace to work in; None if none was named."""
    return None if arguments.netns is None else open_netns(arguments.netns)


def open_netns(text: str) -> NetNS:
    """Open a namespace by name, by path, or by the id of a process inside."""
    try:
        return NetNS.open(text)
    except FileNotFoundError as error:
        if not text.isdecimal():
            raise FileNotFoundError(error.errno, f"there is no network namespace {text!r}: see ip netns") from None
    try:
        return NetNS.open(int(text))
    except FileNotFoundError as error:
        raise FileNotFoundError(
            error.errno, f"there is neither a network namespace nor a process {text}: see ip netns"
        ) from None


def open_pair(name: str, arguments: argparse.Namespace) -> NetkitPair:
    """Open the pair that is named; an error says where it was looked for."""
    with _told_where(name, arguments):
        return NetkitPair.open(name, netns_of(arguments))


def open_named(name: str, arguments: argparse.Namespace) -> NetkitPair | NetkitDevice:
    """Open the pair or the single device that is named; an error says where it was looked for."""
    netns = netns_of(arguments)
    with _told_where(name, arguments):
        try:
            return NetkitDevice.open(name, netns)
        except ValueError:  # no single one
            return NetkitPair.open(name, netns)


@contextlib.contextmanager
def _told_where(name: str, arguments: argparse.Namespace) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise
        where = f"network namespace {arguments.netns}" if arguments.netns else "this network namespace"
        raise OSError(error.errno, f"there is no device {name} in {where}: see netkit-bpf pair show") from None
