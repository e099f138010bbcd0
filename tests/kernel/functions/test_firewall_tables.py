# SPDX-License-Identifier: MIT
"""The firewall's programs against a reference that shares no code with them, by BPF_PROG_TEST_RUN."""

from __future__ import annotations

import os
from collections import Counter
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest

from decoder import TCP, UDP
from firewall_frames import Loaded, frames
from firewall_reference import Chance, Line, Network, judge
from netkit_bpf import Ruleset, Side, Verdict
from packets import chained, ethernet, fragment, ipv4, ipv6, options, tagged, tcp, udp

RETURNS = {"pass": -1, "drop": 2}
RULESETS = int(os.environ.get("NETKIT_BPF_RULESETS", "20"))
PACKETS = int(os.environ.get("NETKIT_BPF_PACKETS", "500"))  # for each


@pytest.mark.filterwarnings("ignore:.*never decides", "ignore:.*repeats")
@pytest.mark.parametrize("seed", range(RULESETS))
def test_random_rules_and_packets_agree_with_the_reference(seed: int) -> None:
    chance = Chance(seed)
    lines = chance.lines(chance.random.choice([0, 1, 5, 30, 63, 64, 65, 130, 300]))
    expected: Counter[int] = Counter()
    sizes: Counter[int] = Counter()
    default = chance.random.choice([Verdict.PASS, Verdict.DROP])
    with Loaded(lines, default) as loaded:
        for frame, side in frames(chance, PACKETS):
            number = judge(lines, frame, side)
            assert loaded.rule(frame, side) == number, tell(lines, number, loaded.rule(frame, side), frame, side)
            action = lines[number].action if number < len(lines) else str(default)
            assert loaded.verdict(frame, side) == RETURNS[action]
            expected[number] += 1
            sizes[number] += len(frame)
        assert loaded.counts() == [(expected[number], sizes[number]) for number in range(len(lines) + 1)]


@pytest.mark.filterwarnings("ignore:.*never decides", "ignore:.*repeats")
def test_ten_thousand_rules_agree_with_the_reference() -> None:
    chance = Chance(7)
    lines = chance.lines(10_000)
    lines = [line for line in lines if line.src and line.dst][:3000] + lines
    lines = lines[:10_000]
    with Loaded(lines, Verdict.DROP) as loaded:
        for frame, side in frames(chance, 60):
            number = judge(lines, frame, side)
            assert loaded.rule(frame, side) == number, tell(lines, number, loaded.rule(frame, side), frame, side)


@pytest.mark.parametrize("ends", [128, 200])
def test_rows_of_more_groups_than_a_word_sums_up_agree_with_the_reference(ends: int) -> None:
    """128 x 128 rules are the most that one word of summary tells of with groups of four words."""
    pairs = [(one, other) for one in range(ends) for other in range(ends)]
    Chance(9).random.shuffle(pairs)
    numbers = {pair: number for number, pair in enumerate(pairs)}
    wide = [f"pass ip from 10.1.0.{one}" for one in range(0, ends, 9)]
    rules = Ruleset([*(f"drop ip from 10.1.0.{one} to 10.2.0.{other}" for one, other in pairs), *wide, "pass arp"])
    with Loaded(rules) as loaded:
        for one, other in [*Chance(10).random.sample(pairs, 300), (0, ends), (9, 255), (1, ends), (ends, 1)]:
            behind = len(pairs) + one // 9 if one < ends and one % 9 == 0 else len(rules)
            frame = addressed(IPv4Address(0x0A010000 + one), IPv4Address(0x0A020000 + other))
            assert loaded.rule(frame) == numbers.get((one, other), behind), (one, other)
        assert loaded.rule(ethernet(0x0806, bytes(28))) == len(rules) - 1


def test_a_set_of_a_hundred_thousand_networks_agrees_with_the_reference() -> None:
    chance = Chance(8)
    networks = {random_network(chance) for _ in range(100_000)}
    rules = Ruleset(["pass from <many>", "drop ip6 from any to <many>", "drop"], {"many": networks})
    held = {(network.version, network.prefixlen, int(network[0])) for network in networks}
    lengths = {version: {length for of, length, _ in held if of == version} for version in (4, 6)}

    def is_held(address: IPv4Address | IPv6Address) -> bool:
        bits = address.max_prefixlen
        cut = ((length, int(address) >> (bits - length) << (bits - length)) for length in lengths[address.version])
        return any((address.version, *each) in held for each in cut)

    some = chance.random.sample(sorted(networks, key=str), 2000)
    with Loaded(rules) as loaded:
        for one, other in zip(some, reversed(some), strict=True):
            at = chance.random.choice([int(one[0]) - 1, int(one[0]), int(one[-1]), int(one[-1]) + 1])
            src = type(one[0])(min(max(at, 0), 2**one.max_prefixlen - 1))
            dst = other[0] if other.version == one.version else src
            frame = addressed(src, dst)
            expected = 0 if is_held(src) else 1 if src.version == 6 and is_held(dst) else 2
            assert loaded.rule(frame) == expected, (src, dst)


def test_what_a_packet_lacks_matches_no_rule_that_asks_for_it() -> None:
    """Under default drop all that is in doubt is dropped."""
    whole = ipv6(TCP, tcp())
    passed = {
        "ipv6": whole,
        "ipv4": ipv4(TCP, tcp()),
        "with options": ipv4(TCP, tcp(), options=b"\1" * 40),
        "a first fragment": chained([fragment(more=True)], TCP, tcp()),
        "a first fragment of ipv4": ipv4(TCP, tcp(), more=True),
        "eight extension headers": chained([options(60)] * 8, TCP, tcp()),
        "a tag": tagged(whole),
        "two tags": tagged(tagged(whole)),
    }
    dropped = {
        "a later fragment": chained([fragment(64)], TCP, tcp()),
        "a later fragment of ipv4": ipv4(TCP, tcp(), offset=64),
        "nine extension headers": chained([options(60)] * 9, TCP, tcp()),
        "three tags": tagged(tagged(tagged(whole))),
        "a cut tcp header": ipv6(TCP, tcp()[:19]),
        "a cut tcp header of ipv4": ipv4(TCP, tcp()[:19]),
        "a first fragment with a cut header": ipv4(TCP, tcp()[:16], more=True),
        "a cut ip header": tagged(whole[:50]),
        "a chain that is cut": chained([options(60, 3)], TCP, b"")[:80],
        "another protocol": ipv6(UDP, udp(dst_port=443)),
        "arp": ethernet(0x0806, bytes(28)),
    }
    with Loaded("pass tcp from any to any port 443", Verdict.DROP) as loaded:
        for name, frame in passed.items():
            assert loaded.verdict(frame) == RETURNS["pass"], name
        for name, frame in dropped.items():
            assert loaded.verdict(frame) == RETURNS["drop"], name
    with Loaded("pass fragment later\npass arp", Verdict.DROP) as loaded:
        assert loaded.verdict(dropped["a later fragment"]) == RETURNS["pass"]
        assert loaded.verdict(dropped["arp"]) == RETURNS["pass"]
        assert loaded.verdict(passed["a first fragment"]) == RETURNS["drop"]


def random_network(chance: Chance) -> Network:
    if chance.random.random() < 0.5:
        return IPv4Network((chance.random.getrandbits(32), chance.random.choice([16, 20, 24, 28, 32])), strict=False)
    base = 0x20010DB8 << 96 | chance.random.getrandbits(72) << 24 | chance.random.getrandbits(24)
    return IPv6Network((base, chance.random.choice([48, 56, 64, 65, 112, 128])), strict=False)


def addressed(src: IPv4Address | IPv6Address, dst: IPv4Address | IPv6Address) -> bytes:
    frame = ipv4(UDP, udp()) if src.version == 4 else ipv6(UDP, udp())
    start = 26 if src.version == 4 else 22
    return frame[:start] + src.packed + dst.packed + frame[start + 2 * len(src.packed) :]


def tell(lines: list[Line], expected: int, actual: int, frame: bytes, side: Side) -> str:
    def line(number: int) -> str:
        return str(lines[number]) if number < len(lines) else "the default"

    return f"{side} {frame.hex()}: expected {expected} ({line(expected)}), not {actual} ({line(actual)})"
