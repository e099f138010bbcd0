# SPDX-License-Identifier: MIT
"""netkit-bpf monitor: print every packet on the hooks of a pair."""

from __future__ import annotations

import argparse
import errno

from netkit_bpf.command.output import note
from netkit_bpf.command.packets import options
from netkit_bpf.command.packets.watch import run
from netkit_bpf.command.selection import netns_of
from netkit_bpf.devices.netns import NetNS
from netkit_bpf.devices.pair import NetkitPair
from netkit_bpf.devices.reap import in_kernels_words, orphans
from netkit_bpf.enums import Mode
from netkit_bpf.errors import NotAPairError


def _pair(arguments: argparse.Namespace) -> NetkitPair:
    name = arguments.name
    netns = netns_of(arguments) or NetNS.current()
    if arguments.existing:
        try:
            return NetkitPair.open(name, netns)
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise
            raise OSError(error.errno, f"there is no device {name} here; without --existing one is made") from None
    try:
        return NetkitPair.create(name, peer_name=arguments.peer_name, mode=arguments.mode or Mode.L3, netns=netns)
    except FileExistsError as error:
        refused = in_kernels_words(error)
        if not _is_netkit(name, netns):
            raise refused from None  # not made by this package
        if any(orphan.name == name for orphan in orphans(netns)):
            advice = "the process that made it was killed: remove it with netkit-bpf reap"
        else:
            advice = (
                f"watch that pair with --existing --name {name}, or, if nobody needs it, remove it with"
                f" netkit-bpf pair delete {name}"
            )
        raise FileExistsError(error.errno, f"{refused.strerror}: {advice}") from None


def _is_netkit(name: str, netns: NetNS) -> bool:
    try:
        NetkitPair.open(name, netns)
    except (OSError, NotAPairError):
        return False
    return True


def _announce(arguments: argparse.Namespace, pair: NetkitPair) -> None:
    name = pair.primary.name
    if arguments.existing:
        note(f"watching {name}, {pair.mode}. Ctrl-C ends.")
        return
    primary, peer = pair.add_link_local()
    note(
        f"made {name} ({primary.ip}) and {pair.peer.name} ({peer.ip}), {pair.mode}."
        f" Try{' there' if arguments.netns else ''}: ping {peer.ip}%{name}   Ctrl-C ends and removes them."
    )


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand and its options."""
    parser = commands.add_parser(
        "monitor",
        usage="netkit-bpf monitor [-i NAME]... [OPTION]... [EXPRESSION] [-- COMMAND [ARGUMENT]...]",
        help="print every packet on the hooks of a pair",
        description="Print a line for every packet on the hooks of the pairs that -i names. Without -i, make a"
        " pair with link-local addresses, and remove it on Ctrl-C. EXPRESSION says which packets: see pcap-filter(7)."
        " With a COMMAND, watch while it runs; a limit as -c ends it, with status 0. Needs root; -r does not.",
    )
    made = parser.add_argument_group("without -i: the pair to make")
    made.add_argument("--name", help="name of the primary (default: nk0)")
    made.add_argument("--peer-name", metavar="NAME", help="name of the peer (default: the primary's and a p)")
    made.add_argument("--mode", choices=("l2", "l3"), help="of the new pair (default: l3)")
    made.add_argument("--existing", action="store_true", help="watch the existing pair of --name, as -i does")
    options.add_to(parser)
    parser.set_defaults(takes_words=True)

    def start(arguments: argparse.Namespace) -> int:
        options.check(arguments, parser.error)
        described = arguments.mode or arguments.peer_name
        is_there = options.names_a_pair(arguments) or arguments.read is not None
        if arguments.existing and described:
            parser.error("--mode and --peer-name describe a new pair: leave them out with --existing")
        if is_there or arguments.list:
            if described or arguments.name or arguments.existing:
                parser.error("--name, --peer-name, --mode and --existing are about a pair of this command's own:"
                             " leave them out with -i and -r")  # fmt: skip
            return run(arguments)
        if arguments.user:
            parser.error("-Z: who makes a pair must be able to remove it: name an existing one with -i")
        arguments.name = arguments.name or "nk0"
        return run(arguments, _pair, _announce)

    parser.set_defaults(run=start)
