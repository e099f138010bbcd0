# SPDX-License-Identifier: MIT
"""netkit-bpf reap: remove pairs and named namespaces whose maker was killed."""

from __future__ import annotations

import argparse
from pathlib import Path

from netkit_bpf.command.output import note, printable, say
from netkit_bpf.command.selection import add_option, netns_of
from netkit_bpf.devices.netns import NetNS
from netkit_bpf.devices.pair import pairs
from netkit_bpf.devices.reap import orphans, reap


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand and its options."""
    parser = commands.add_parser(
        "reap",
        help="remove pairs and named namespaces whose maker was killed",
        description="Remove the netkit pairs and named network namespaces that a program made with this package and"
        " could not delete, because it was killed. Their alias names it. Those of others stay, those that somebody may"
        " still use, and those of netkit-bpf pair create. Needs root.",
    )
    add_option(parser, "here and in all named namespaces")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    netns = netns_of(arguments)
    if netns is None and (unseen := _out_of_reach()):
        note(f"not looked into, for want of CAP_SYS_ADMIN: {', '.join(unseen)}: run as root, or with sudo")
    found = orphans(netns) if arguments.dry_run else reap(netns)
    for orphan in found:
        say(printable(f"{'would remove' if arguments.dry_run else 'removed'} {orphan}"))
    return 0


def _out_of_reach() -> list[str]:
    """The named namespaces that this process may not enter, and so cannot see into."""
    names = []
    directory = Path("/run/netns")
    for path in sorted(directory.iterdir()) if directory.is_dir() else []:
        try:
            with NetNS.open(path.name) as netns:
                pairs(netns)
        except PermissionError:
            names.append(path.name)
        except (OSError, ValueError):
            continue  # deleted meanwhile, or a file without a namespace
    return names
