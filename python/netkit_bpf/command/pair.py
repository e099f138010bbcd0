# SPDX-License-Identifier: MIT
"""netkit-bpf pair: make, show, change and delete pairs, with the words of ip-link(8)."""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from netkit_bpf.command import pair_show
from netkit_bpf.command.output import say_json
from netkit_bpf.command.selection import add_option, add_pair, chosen_device, open_named, open_netns
from netkit_bpf.devices.device import Device
from netkit_bpf.devices.link_numbers import LINK_NUMBERS, LinkNumber
from netkit_bpf.devices.netkit_device import NetkitDevice
from netkit_bpf.devices.pair import NetkitPair
from netkit_bpf.devices.pair_options import DeviceChanges
from netkit_bpf.devices.reap import in_kernels_words
from netkit_bpf.enums import AddrGenMode, Mode, Policy, Scrub, Side
from netkit_bpf.errors import NotAPairError

_ENDS = (("", "primary"), ("peer-", "peer"))


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand, its own subcommands and their options."""
    parser = commands.add_parser(
        "pair",
        help="make, show, change and delete pairs",
        description="Make, show, change and delete netkit pairs. The options are the words of ip-link(8); with peer-"
        " before them they apply to the peer.",
    )
    actions = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_create(actions)
    pair_show.add_to(actions)
    _add_set(actions)
    _add_delete(actions)


def _add_create(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = actions.add_parser(
        "create",
        aliases=["add"],
        help="make a pair",
        description="Make a pair. It stays until it is deleted. A number that is not given for the peer is taken"
        " from the primary, except the index. Needs root.",
    )
    parser.add_argument("name", metavar="NAME", help="of the primary")
    add_option(parser)
    parser.add_argument("--peer-name", metavar="NAME", help="of the peer (default: the primary's and a p)")
    parser.add_argument("--mode", choices=_words(Mode), help="default: l3")
    parser.add_argument("--headroom", type=int, metavar="N", help="bytes to reserve before each packet (Linux 6.14)")
    parser.add_argument("--tailroom", type=int, metavar="N", help="bytes to reserve behind each packet (Linux 6.14)")
    for prefix, end in _ENDS:
        group = parser.add_argument_group(f"the {end}")
        _add_policy(group, prefix)
        group.add_argument(f"--{prefix}scrub", choices=_words(Scrub), help="what its packets lose on their way")
        _add_device_options(group, prefix, LINK_NUMBERS.values())
        group.add_argument(
            f"--{prefix}index", dest=_key(prefix, "ifindex"), type=int, metavar="N", help="the device's number"
        )
    parser.add_argument("--peer-netns", metavar="NETNS", help="namespace of the peer (default: that of the primary)")
    parser.add_argument("--down", dest="up", action="store_false", help="leave both ends down")
    parser.add_argument("--json", action="store_true", help="print the pair as pair show --json does")
    parser.set_defaults(run=_create)


def _add_set(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = actions.add_parser(
        "set",
        help="change a pair",
        description="Change a pair or a single netkit device, in the order of the options below: changes made"
        " before an error stay. Needs root.",
    )
    add_pair(parser, "of the primary or the peer")
    for prefix, end in _ENDS:
        group = parser.add_argument_group(f"the {end}")
        _add_policy(group, prefix)
        _add_device_options(group, prefix, (row for row in LINK_NUMBERS.values() if row.later))
        group.add_argument(f"--{prefix}name", dest=_key(prefix, "new_name"), metavar="NAME", help="the new one")
        state = group.add_mutually_exclusive_group()
        state.add_argument(f"--{prefix}up", action="store_true", default=None, help="set it up")
        state.add_argument(f"--{prefix}down", dest=_key(prefix, "up"), action="store_false", help="set it down")
        group.add_argument(f"--{prefix}move", metavar="NETNS", help="move it there; it arrives down, without addresses")

    def run(arguments: argparse.Namespace) -> int:
        if not any(value is not None for _, _, value in _changes(arguments)):
            parser.error("say what to change")
        return _set(arguments)

    parser.set_defaults(run=run)


def _add_delete(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = actions.add_parser(
        "delete",
        aliases=["del"],
        help="delete pairs",
        description="Delete pairs, both ends of each, and single devices. Needs root.",
    )
    parser.add_argument("names", nargs="+", metavar="NAME", help="of the primary or the peer")
    add_option(parser)
    parser.set_defaults(run=_delete)


def _add_policy(group: argparse._ArgumentGroup, prefix: str) -> None:
    group.add_argument(
        f"--{prefix}policy",
        choices=_words(Policy),
        help="for its packets while no program is attached (default: forward)",
    )


def _add_device_options(group: argparse._ArgumentGroup, prefix: str, numbers: Iterable[LinkNumber]) -> None:
    group.add_argument(f"--{prefix}alias", metavar="TEXT", help="a text for people; empty for none")
    group.add_argument(
        f"--{prefix}address",
        dest=_key(prefix, "mac"),
        metavar="MAC",
        help='in l2 mode; "kernel" leaves it to the kernel',
    )
    group.add_argument(f"--{prefix}addrgenmode", choices=_words(AddrGenMode), help="for its IPv6 link-local address")
    for row in numbers:
        group.add_argument(_option(prefix, row), dest=_key(prefix, row.name), type=int, metavar="N", help=row.what)


def _option(prefix: str, row: LinkNumber) -> str:
    return f"--{prefix}{row.word.replace('_', '-')}"


def _words(kind: type[Mode | Policy | Scrub | AddrGenMode]) -> list[str]:
    return [str(member) for member in kind]


def _key(prefix: str, key: str) -> str:
    return prefix.replace("-", "_") + key


def _create(arguments: argparse.Namespace) -> int:
    options: dict[str, Any] = {key: value for key, value in vars(arguments).items() if value is not None}
    del options["run"], options["json"]
    # This process ends now, and the pair must not count as an orphan then.
    options.setdefault("alias", "")
    for key in ("netns", "peer_netns"):
        if key in options:
            options[key] = open_netns(options[key])
    words = {_key(prefix, key): option for prefix, _ in _ENDS for key, option in _options(prefix).items()}
    try:
        with _in_our_words(words):
            made = NetkitPair.create(**options)
    except FileExistsError as error:
        raise in_kernels_words(error) from None
    if arguments.json:
        say_json(json.dumps(pair_show.describe(made)))
    return 0


def _options(prefix: str) -> dict[str, str]:
    """Maps the arguments of `NetkitPair.create` for one end to the options of the command."""
    options = {row.name: _option(prefix, row) for row in LINK_NUMBERS.values()}
    return options | {"mac": f"--{prefix}address", "ifindex": f"--{prefix}index"}


@contextlib.contextmanager
def _in_our_words(options: dict[str, str]) -> Iterator[None]:
    """Make an error that begins with an argument name the option instead: "--peer-mtu must be ..."."""
    try:
        yield
    except ValueError as error:
        argument, space, rest = str(error).partition(" ")
        key = argument.rstrip(":")
        if key not in options:
            raise
        raise ValueError(f"{options[key]}{argument[len(key) :]}{space}{rest}") from None


def _set(arguments: argparse.Namespace) -> int:
    found = chosen_device(arguments)
    changes = [each for each in _changes(arguments) if each[2] is not None]
    if isinstance(found, NetkitDevice) and any(side is Side.PEER or change == "policy" for side, change, _ in changes):
        raise NotAPairError(f"{arguments.name} is a single netkit device: it has no peer and no policy")
    for side, change, value in changes:
        if change == "policy":
            assert isinstance(found, NetkitPair)
            found.set_policy(value, side=side)
            continue
        device = found if isinstance(found, NetkitDevice) else found.primary if side is Side.PRIMARY else found.peer
        if change in _ACTIONS:
            _ACTIONS[change](device, value)
        else:
            with _in_our_words(_options("" if side is Side.PRIMARY else "peer-")):
                device.set(**{change: value})
    return 0


def _changes(arguments: argparse.Namespace) -> Iterator[tuple[Side, str, Any]]:
    for side, prefix in ((Side.PRIMARY, ""), (Side.PEER, "peer_")):
        for change in ("policy", *DeviceChanges.__annotations__, *_ACTIONS):
            yield side, change, getattr(arguments, prefix + change)


_ACTIONS: dict[str, Callable[[Device, Any], object]] = {
    "new_name": Device.rename,
    "up": lambda device, up: device.up() if up else device.down(),
    "move": lambda device, netns: device.move(open_netns(netns)),
}


def _delete(arguments: argparse.Namespace) -> int:
    for name in arguments.names:
        open_named(name, arguments).delete()
    return 0
