# SPDX-License-Identifier: MIT
"""The firewall against nftables: the same rules and frames, and each rule's counter compared."""

from __future__ import annotations

import ipaddress
import json
import socket
import subprocess
from collections.abc import Iterator

import pytest

from decoder import ICMP
from elsewhere import need
from firewall_frames import Loaded, edge_frame
from firewall_reference import Chance, Line
from netkit_bpf import NetNS, Side, Verdict

ETHERNET = 14  # bytes that nftables does not count at a netdev hook


@pytest.mark.filterwarnings("ignore:.*never decides", "ignore:.*repeats")
def test_a_thousand_rules_count_two_thousand_packets_as_nftables_counts_them() -> None:
    chance = Chance(2026)
    lines = [line for line in chance.lines(8000) if is_for_nftables(line) and is_narrow(line)][:1000]
    assert len(lines) == 1000
    for line in lines:
        line.side = None
    # nftables 1.0.6 on 6.18 finds ports and types in later fragments of IPv4, where there are none.
    frames = [edge_frame(chance, all_kinds=False) for _ in range(2000)]
    expected = count_by_nftables(lines, frames)
    with Loaded(lines, Verdict.DROP) as loaded:
        for frame in frames:
            loaded.verdict(frame, Side.PRIMARY)
        counts = loaded.counts()
    found = [(packets, size - packets * ETHERNET) for packets, size in counts[:-1]]
    assert {n: (str(lines[n]), found[n], expected[n]) for n in range(1000) if found[n] != expected[n]} == {}
    assert sum(packets > 0 for packets, _ in expected) > 50  # or little was compared


def count_by_nftables(lines: list[Line], frames: list[bytes]) -> list[tuple[int, int]]:
    """Packets and bytes by line."""
    need("nft")
    rules = "\n".join(" ".join([*words(line), "counter", "accept"]) for line in lines)
    hook = "type filter hook ingress device lo priority 0; policy drop;"
    ruleset = f"table netdev judge {{\nchain judge {{\n{hook}\n{rules}\n}}\n}}\n"
    with NetNS.create() as netns:
        netns.run(["ip", "link", "set", "lo", "up"], check=True)
        netns.run(["nft", "-f", "-"], input=ruleset, text=True, check=True)
        with netns.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
            raw.bind(("lo", 0))
            for frame in frames:
                raw.send(frame)
        listed = netns.run(["nft", "-j", "list", "chain", "netdev", "judge", "judge"], capture_output=True, check=True)
    assert isinstance(listed, subprocess.CompletedProcess)
    counters = [
        expression["counter"]
        for item in json.loads(listed.stdout)["nftables"]
        if "rule" in item
        for expression in item["rule"]["expr"]
        if "counter" in expression
    ]
    return [(counter["packets"], counter["bytes"]) for counter in counters]


def is_for_nftables(line: Line) -> bool:
    """Whether one rule of nftables says the same: it takes addresses of one family, and no fragments of both."""
    return len({network.version for network in [*line.src, *line.dst]}) < 2 and not line.fragment


def is_narrow(line: Line) -> bool:
    """Whether it leaves packets to the lines behind it."""
    asked = [line.src, line.dst, line.src_ports or line.dst_ports, line.icmp_types, line.flags]
    return sum(map(bool, asked)) > 1 and all(network.prefixlen > 7 for network in [*line.src, *line.dst])


def words(line: Line) -> Iterator[str]:
    """A line in the words of nft(8)."""
    if line.family:
        yield f"meta protocol {line.family}"
    elif line.icmp_types:  # of which nftables finds some in the packets of the other family
        yield f"meta protocol {'ip' if line.protocols == [ICMP] else 'ip6'}"
    for word, networks in (("saddr", line.src), ("daddr", line.dst)):
        if networks:
            family = "ip" if networks[0].version == 4 else "ip6"
            yield f"{family} {word} {{ {', '.join(map(str, ipaddress.collapse_addresses(networks)))} }}"  # type: ignore[type-var]
    if line.protocols:
        yield f"meta l4proto {{ {', '.join(map(str, line.protocols))} }}"
    for word, ports in (("sport", line.src_ports), ("dport", line.dst_ports)):
        if ports:
            yield f"th {word} {{ {intervals(ports)} }}"
    if line.flags:
        yield f"tcp flags & {line.flags[1]:#x} == {line.flags[0]:#x}"
    icmp = "icmp" if line.protocols == [ICMP] else "icmpv6"
    if line.icmp_types:
        yield f"{icmp} type {{ {intervals(line.icmp_types)} }}"
    if line.icmp_code is not None:
        yield f"{icmp} code {line.icmp_code}"
    if line.lengths:
        yield f"meta length {max(line.lengths[0][0] - ETHERNET, 0)}-{line.lengths[0][1] - ETHERNET}"


def intervals(ranges: list[tuple[int, int]]) -> str:
    """Ranges of which none overlaps another, as sets of nftables want them."""
    merged: list[list[int]] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1] + 1:
            merged[-1][1] = max(merged[-1][1], last)
        else:
            merged.append([first, last])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in merged)
