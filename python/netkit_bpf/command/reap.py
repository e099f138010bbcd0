# SPDX-License-Identifier: MIT
"""netkit-bpf reap: remove pairs and named namespaces whose maker was killed."""

from __future__ import annotations

import argparse
import json

from netkit_bpf.command.output import note, printable, say, say_json
from netkit_bpf.command.programs.leftover import leftovers
from netkit_bpf.command.selection import add_option, netns_of
from netkit_bpf.devices.orphan import out_of_reach
from netkit_bpf.devices.reap import orphans, reap


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand and its options."""
    parser = commands.add_parser(
        "reap",
        help="remove pairs and named namespaces whose maker was killed",
        description="Remove the netkit pairs and named network namespaces that a program made with this package and"
        " could not delete, because it was killed. Their alias names it. Other devices stay, and so do those that may"
        " still be in use, and those made by netkit-bpf pair create. Remove too what netkit-bpf prog attach and fw load"
        " --pin pinned for pairs that are gone. Needs root.",
    )
    add_option(parser, "here and in all named namespaces")
    parser.add_argument("--dry-run", action="store_true", help="only print what would be removed")
    parser.add_argument("--json", action="store_true", help="a JSON object a line for each")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    netns = netns_of(arguments)
    if netns is None and (unseen := out_of_reach()):
        note(f"skipped for lack of CAP_SYS_ADMIN: {', '.join(unseen)}: run as root, or with sudo")
    found = orphans(netns) if arguments.dry_run else reap(netns)
    done = "would remove" if arguments.dry_run else "removed"
    for orphan in found:
        if arguments.json:
            made = {"name": orphan.name, "ifindex": orphan.ifindex, "netns": orphan.netns.name, "pid": orphan.pid}
            say_json(json.dumps({"type": done, **made}))
            continue
        say(printable(f"{done} {orphan}"))
    try:
        for path in leftovers(None if netns is None else netns.inode, remove=not arguments.dry_run):
            told = json.dumps({"type": done, "pinned": str(path)})
            say_json(told) if arguments.json else say(printable(f"{done} {path}, pinned for a pair that is gone"))
    except PermissionError as error:
        note(f"skipped what is pinned: {error.strerror}")
    return 0
