# SPDX-License-Identifier: MIT
"""Namespaces, pairs and single devices that the command line names, as ip-link(8) takes them."""

from __future__ import annotations

import argparse
import contextlib
import errno
from collections.abc import Iterator
from typing import Any

from netkit_bpf.command.usage import whole_number
from netkit_bpf.devices.netkit_device import NetkitDevice
from netkit_bpf.devices.netns import NetNS
from netkit_bpf.devices.pair import NetkitPair, pairs


def add_option(parser: argparse._ActionsContainer, default: str = "this one", short: tuple[str, ...] = ("-n",)) -> None:
    """Add the option for the namespace to work in, the same for all subcommands."""
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


def add_inhabitants(group: argparse._ActionsContainer, **options: Any) -> None:
    """Add the options that choose a pair by what lives behind it; the options are those of add_argument()."""
    what = "the pair of a container or a pod, by its id, by the beginning of that, or by the path of its cgroup"
    group.add_argument("--container", metavar="ID", help=what, **options)
    what = "the pair of the network namespace that a process lives in, by the process's id"
    group.add_argument("--pid", type=whole_number, metavar="N", help=what, **options)


def add_pair(parser: argparse.ArgumentParser, what: str, *, required: bool = True, alone: bool = True) -> None:
    """Add the pair that a subcommand is about, by name or by what lives behind it.

    Args:
        parser: of the subcommand.
        what: the name is.
        required: whether the pair must be chosen.
        alone: whether the name is the only positional argument that may be left out.
    """
    group = parser.add_mutually_exclusive_group(required=required and alone)
    (group if alone else parser).add_argument("name", nargs="?", metavar="NAME", help=what)
    add_inhabitants(group)
    add_option(parser)


def inhabitants(arguments: argparse.Namespace) -> list[str | int]:
    """The containers and processes whose pairs are chosen."""
    given = (arguments.container, arguments.pid)
    return [each for one in given if one is not None for each in (one if isinstance(one, list) else [one])]


def inhabited_pairs(arguments: argparse.Namespace) -> list[NetkitPair]:
    """Open the pairs that are chosen by what lives behind them; none if none is."""
    chosen = inhabitants(arguments)
    if chosen and arguments.netns is not None:
        raise argparse.ArgumentError(None, "--netns says where a NAME is: leave it out with --container and --pid")
    return [NetkitPair.of(each) for each in chosen]


def chosen_pair(arguments: argparse.Namespace) -> NetkitPair:
    """Open the pair that a subcommand is about."""
    if inhabited := inhabited_pairs(arguments):
        return inhabited[0]
    if arguments.name is None:
        raise argparse.ArgumentError(None, "say which pair: NAME, --container ID or --pid N")
    return open_pair(arguments.name, arguments)


def add_pairs(parser: argparse.ArgumentParser) -> None:
    """Add the pairs that a subcommand looks at, and the namespace that they are in."""
    parser.add_argument("pairs", nargs="*", metavar="PAIR", help="the primary of a pair (default: all pairs)")
    add_inhabitants(parser, action="append", default=[])
    add_option(parser)


def open_pairs(arguments: argparse.Namespace) -> list[NetkitPair]:
    """Open the pairs that are named, or all of the namespace; LookupError if there is none."""
    inhabited = inhabited_pairs(arguments)
    chosen = [open_pair(name, arguments) for name in arguments.pairs] + inhabited
    chosen = chosen or pairs(netns_of(arguments))
    if not chosen:
        raise LookupError(
            "there is no pair here: netkit-bpf pair create makes one, --netns looks in another network namespace"
        )
    return chosen


def chosen_device(arguments: argparse.Namespace) -> NetkitPair | NetkitDevice:
    """Open the pair or the single device that a subcommand is about."""
    if inhabited := inhabited_pairs(arguments):
        return inhabited[0]
    return open_named(arguments.name, arguments)


def open_named(name: str, arguments: argparse.Namespace) -> NetkitPair | NetkitDevice:
    """Open the pair or the single device that is named; an error says where it was looked for."""
    netns = netns_of(arguments)
    with _told_where(name, arguments):
        try:
            return NetkitDevice.open(name, netns)
        except ValueError:  # not a single device
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
