# SPDX-License-Identifier: MIT
"""netkit-bpf pair: make, show, change and delete pairs, with the words of ip-link(8)."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Any

from netkit_bpf.command import pair_show
from netkit_bpf.command.selection import add_option, netns_of, open_named, open_netns
from netkit_bpf.devices.device import Device
from netkit_bpf.devices.netkit_device import NetkitDevice
from netkit_bpf.devices.pair import NetkitPair
from netkit_bpf.enums import AddrGenMode, Mode, Policy, Scrub, Side
from netkit_bpf.errors import NotAPairError

# ip-link(8)'s word, the argument of NetkitPair.create(), what it is.
_NUMBERS = (
    ("mtu", "mtu", "largest packet, 68 to 65535 bytes"),
    ("txqueuelen", "txqueuelen", "packets that a queueing discipline may hold"),
    ("group", "group", "number of the device's group"),
    ("numtxqueues", "num_tx_queues", "transmit queues"),
    ("numrxqueues", "num_rx_queues", "receive queues"),
    ("gso-max-size", "gso_max_size", "largest IPv6 segment handed down, in bytes"),
    ("gso-max-segs", "gso_max_segs", "most wire packets in one segment"),
    ("gro-max-size", "gro_max_size", "largest IPv6 packet put together on receipt, in bytes"),
    ("gso-ipv4-max-size", "gso_ipv4_max_size", "the same as --gso-max-size for IPv4"),
    ("gro-ipv4-max-size", "gro_ipv4_max_size", "the same as --gro-max-size for IPv4"),
    ("index", "ifindex", "the device's number"),
)
_ENDS = (("", "primary"), ("peer-", "peer"))


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand, its own subcommands and their options."""
    parser = commands.add_parser(
        "pair",
        help="make, show, change and delete pairs",
        description="Make, show, change and delete netkit pairs. The options are the words of ip-link(8); with peer-"
        " before them they are about the peer.",
    )
    actions = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_create(actions)
    pair_show.add_to(actions)
    _add_set(actions)
    _add_delete(actions)


def _add_create(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = actions.add_parser(
        "create",
        help="make a pair",
        description="Make a pair. It stays until somebody deletes it. The peer takes from the primary what is a number"
        " and not given for it, but the index. Needs root.",
    )
    parser.add_argument("name", metavar="NAME", help="of the primary")
    add_option(parser)
    parser.add_argument("--peer-name", metavar="NAME", help="of the peer (default: the primary's and a p)")
    parser.add_argument("--mode", choices=_words(Mode), help="default: l3")
    parser.add_argument("--headroom", type=int, metavar="N", help="bytes to reserve before each packet (Linux 6.14)")
    parser.add_argument("--tailroom", type=int, metavar="N", help="bytes to reserve behind each packet (Linux 6.14)")
    for prefix, end in _ENDS:
        group = parser.add_argument_group(f"the {end}")
        group.add_argument(f"--{prefix}netns", type=str, metavar="NETNS", help="where it shall live")
        _add_words(group, prefix)
        group.add_argument(f"--{prefix}address", dest=_key(prefix, "mac"), metavar="MAC", help="in l2 mode")
        group.add_argument(
            f"--{prefix}addrgenmode", choices=_words(AddrGenMode), help="for its IPv6 link-local address"
        )
        for word, key, what in _NUMBERS:
            group.add_argument(f"--{prefix}{word}", dest=_key(prefix, key), type=int, metavar="N", help=what)
    parser.add_argument("--down", dest="up", action="store_false", help="leave both ends down")
    parser.set_defaults(run=_create)


def _add_set(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = actions.add_parser(
        "set",
        help="change a pair",
        description="Change a pair or a single netkit device, in the order of the options below: what was changed"
        " before an error stays. Needs root.",
    )
    parser.add_argument("name", metavar="NAME", help="of the primary or the peer")
    add_option(parser)
    for prefix, end in _ENDS:
        group = parser.add_argument_group(f"the {end}")
        group.add_argument(
            f"--{prefix}policy", choices=_words(Policy), help="for its packets while no program is there"
        )
        group.add_argument(f"--{prefix}mtu", type=int, metavar="N", help="largest packet, 68 to 65535 bytes")
        group.add_argument(f"--{prefix}group", type=int, metavar="N", help="number of the device's group")
        group.add_argument(f"--{prefix}alias", metavar="TEXT", help="for people; an empty one is none")
        group.add_argument(f"--{prefix}name", dest=_key(prefix, "new_name"), metavar="NAME", help="the new one")
        state = group.add_mutually_exclusive_group()
        state.add_argument(f"--{prefix}up", action="store_true", default=None, help="set it up")
        state.add_argument(f"--{prefix}down", dest=_key(prefix, "up"), action="store_false", help="set it down")
        group.add_argument(
            f"--{prefix}netns", metavar="NETNS", help="move it there; it arrives down, without addresses"
        )

    def run(arguments: argparse.Namespace) -> int:
        if not any(value is not None for _, _, value in _changes(arguments)):
            parser.error("say what to change")
        return _set(arguments)

    parser.set_defaults(run=run)


def _add_delete(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = actions.add_parser(
        "delete", help="delete pairs", description="Delete pairs, both ends of each, and single devices. Needs root."
    )
    parser.add_argument("names", nargs="+", metavar="NAME", help="of the primary or the peer")
    add_option(parser)
    parser.set_defaults(run=_delete)


def _add_words(group: argparse._ArgumentGroup, prefix: str) -> None:
    group.add_argument(
        f"--{prefix}policy", choices=_words(Policy), help="for its packets while no program is there (default: forward)"
    )
    group.add_argument(f"--{prefix}scrub", choices=_words(Scrub), help="what its packets lose on their way")
    group.add_argument(f"--{prefix}alias", metavar="TEXT", help="for people")


def _words(kind: type[Mode | Policy | Scrub | AddrGenMode]) -> list[str]:
    return [str(member) for member in kind]


def _key(prefix: str, key: str) -> str:
    return prefix.replace("-", "_") + key


def _create(arguments: argparse.Namespace) -> int:
    given = {key: value for key, value in vars(arguments).items() if value is not None}
    options: dict[str, Any] = {key: given[key] for key in given.keys() - {"run", "inside"}}
    # This process ends now, and the pair must not be an orphan then.
    options.setdefault("alias", "")
    options["netns"] = open_netns(given["netns"]) if "netns" in given else netns_of(arguments)
    if "peer_netns" in given:
        options["peer_netns"] = open_netns(given["peer_netns"])
    try:
        NetkitPair.create(**options)
    except ValueError as error:
        raise ValueError(_in_our_words(str(error))) from None
    return 0


def _in_our_words(text: str) -> str:
    """The text with the option in place of the argument that it begins with: "--peer-mtu must be ..."."""
    argument, space, rest = text.partition(" ")
    for prefix, _ in _ENDS:
        for word, key in (("address", "mac"), *((word, key) for word, key, _ in _NUMBERS)):
            if argument.rstrip(":") == _key(prefix, key):
                return f"--{prefix}{word}{argument[len(_key(prefix, key)) :]}{space}{rest}"
    return text


def _set(arguments: argparse.Namespace) -> int:
    found = open_named(arguments.name, arguments)
    changes = [each for each in _changes(arguments) if each[2] is not None]
    if isinstance(found, NetkitDevice) and any(side is Side.PEER or change == "policy" for side, change, _ in changes):
        raise NotAPairError(f"{arguments.name} is a single netkit device: it has no peer and no policy")
    for side, change, value in changes:
        if isinstance(found, NetkitDevice):
            _DEVICE_CHANGES[change](found, value)
        elif change == "policy":
            found.set_policy(value, side=side)
        else:
            _DEVICE_CHANGES[change](found.primary if side is Side.PRIMARY else found.peer, value)
    return 0


def _changes(arguments: argparse.Namespace) -> Iterator[tuple[Side, str, Any]]:
    for side, prefix in ((Side.PRIMARY, ""), (Side.PEER, "peer_")):
        for change in ("policy", *_DEVICE_CHANGES):
            yield side, change, getattr(arguments, prefix + change)


_DEVICE_CHANGES: dict[str, Callable[[Device, Any], object]] = {
    "mtu": Device.set_mtu,
    "group": Device.set_group,
    "alias": Device.set_alias,
    "new_name": Device.rename,
    "up": lambda device, up: device.up() if up else device.down(),
    "netns": lambda device, netns: device.move(open_netns(netns)),
}


def _delete(arguments: argparse.Namespace) -> int:
    for name in arguments.names:
        open_named(name, arguments).delete()
    return 0
