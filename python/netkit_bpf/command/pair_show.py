# SPDX-License-Identifier: MIT
"""netkit-bpf pair show, which shows single devices too."""

from __future__ import annotations

import argparse
import json
from typing import Any

from netkit_bpf.command.output import say, say_json
from netkit_bpf.command.selection import add_pair, chosen_device, netns_of
from netkit_bpf.devices.device import Device
from netkit_bpf.devices.link_numbers import LINK_NUMBERS
from netkit_bpf.devices.netkit_device import NetkitDevice, single_devices
from netkit_bpf.devices.pair import NetkitPair, pairs
from netkit_bpf.enums import Policy, Scrub


def add_to(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand and its options."""
    parser = actions.add_parser(
        "show",
        aliases=["list", "ls"],
        help="show pairs",
        description="Show a pair, or all pairs with an end in the namespace, and single netkit devices.",
    )
    add_pair(parser, "of the primary or the peer (default: all)", required=False)
    parser.add_argument(
        "-j", "--json", action="store_true", help="one JSON list, with the keys of ip -json -details link"
    )
    parser.set_defaults(run=_show)


def _show(arguments: argparse.Namespace) -> int:
    found: list[NetkitPair | NetkitDevice]
    if (arguments.name, arguments.container, arguments.pid) == (None, None, None):
        netns = netns_of(arguments)
        found = [*pairs(netns), *single_devices(netns)]
    else:
        found = [chosen_device(arguments)]
    described = [_describe_single(each) if isinstance(each, NetkitDevice) else describe(each) for each in found]
    if arguments.json:
        say_json(json.dumps(described))
    else:
        for pair in described:
            say(*_lines(pair))
    return 0


def describe(pair: NetkitPair) -> dict[str, Any]:
    """Describe a pair in the words of ip-link(8)."""
    try:
        peer = _describe_end(pair.peer, pair.peer_policy, pair.peer_scrub)
    except LookupError:
        peer = None  # in a namespace that has no name and no process
    return {
        "pairing": "pair",
        "mode": pair.mode,
        "headroom": pair.headroom,
        "tailroom": pair.tailroom,
        "primary": _describe_end(pair.primary, pair.policy, pair.scrub),
        "peer": peer,
    }


def _describe_single(device: NetkitDevice) -> dict[str, Any]:
    """The same for a single device, which has neither policy nor scrub mode."""
    return {
        "pairing": "single",
        "mode": device.mode,
        "headroom": device.headroom,
        "tailroom": device.tailroom,
        "primary": _describe_end(device, None, None),
        "peer": None,
    }


def _describe_end(device: Device, policy: Policy | None, scrub: Scrub | None) -> dict[str, Any]:
    return {
        "ifindex": device.ifindex,
        "ifname": device.name,
        "netns": device.netns.name,
        "up": device.is_up,
        "policy": policy,
        "scrub": scrub,
        **{row.key: getattr(device, row.name) for row in LINK_NUMBERS.values()},
        "inet6_addr_gen_mode": device.addrgenmode,
        "address": device.mac,
        "ifalias": device.alias,
        "addr_info": [str(address) for address in device.addresses],
    }


def _lines(pair: dict[str, Any]) -> list[str]:
    """Three lines, the pair and each end, with the most important attributes; two for a single device."""
    is_single = pair["pairing"] == "single"
    lines = [f"{pair['primary']['ifname']}: {pair['mode']}{' single' if is_single else ''}"]
    lines[0] += "".join(f" {room} {pair[room]}" for room in ("headroom", "tailroom") if pair[room])
    for side in ("primary",) if is_single else ("primary", "peer"):
        end = pair[side]
        if end is None:
            lines.append(f"    {side:<8} in a network namespace that has no name and no process here")
            continue
        words = [f"{side:<8}", end["ifname"], f"ifindex {end['ifindex']}", "up" if end["up"] else "down"]
        words += [f"{key} {end[key]}" for key in ("mtu", "policy", "scrub") if end[key] is not None]
        words += [f"{word} {end[key]}" for word, key in (("netns", "netns"), ("alias", "ifalias")) if end[key]]
        if pair["mode"] == "l2":
            words.append(f"address {end['address']}")
        words += end["addr_info"]
        lines.append("    " + " ".join(words))
    return lines
