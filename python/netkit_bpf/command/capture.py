# SPDX-License-Identifier: MIT
"""netkit-bpf capture: tcpdump(8) for pairs."""

from __future__ import annotations

import argparse

from netkit_bpf.command.packets import options
from netkit_bpf.command.packets.watch import run


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand and its options."""
    parser = commands.add_parser(
        "capture",
        usage="netkit-bpf capture [-i NAME]... [OPTION]... [EXPRESSION] [-- COMMAND [ARGUMENT]...]",
        help="print packets, or write them to a file, as tcpdump does",
        description="Print the packets on the hooks of existing pairs, or write them to a pcapng file, which Wireshark"
        " and tcpdump open. Without -i, the only pair that is there. EXPRESSION says which packets: see pcap-filter(7)."
        " With a COMMAND, watch while it runs; a limit as -c ends it, with status 0. Needs root; -r does not.",
    )
    options.add_to(parser)
    parser.set_defaults(takes_words=True)

    def start(arguments: argparse.Namespace) -> int:
        options.check(arguments, parser.error)
        return run(arguments)

    parser.set_defaults(run=start)
