"""A packet among ten rules and among ten thousand, and the replacement of these; beside what others do."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import rulesets
import wire

from netkit_bpf import BPFObject, Firewall, NetNS, Program, Ruleset, Verdict
from netkit_bpf.functions.firewall_programs import load_rules

FEW, MANY = 10, 10_000
FLOWS = 16  # each for itself, one packet again and again
REPEAT = 20_000
WARM = 3


def measure(build: Path) -> Iterator[tuple[str, float]]:
    """Measure without the warnings of rules that never decide, of which random ones have some."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield from _measure(build)


def _measure(build: Path) -> Iterator[tuple[str, float]]:
    """Nanoseconds a packet of one flow, net of an empty program; milliseconds for a replacement."""
    with BPFObject.open(build / "empty.o") as empty:
        base = _cost(empty.programs["empty"], list(rulesets.packets(rulesets.make("acl", FEW), 1)))
    for kind in rulesets.SHAPES:
        for count in (FEW, MANY):
            rules = rulesets.make(kind, count)
            texts = [rule.pf() for rule in rules]
            flows = list(rulesets.packets(rules, FLOWS))
            with load_rules(Ruleset(texts), Verdict.PASS) as loaded:
                yield f"firewall: {kind}, {count} rules, ns", _cost(loaded.programs["firewall_primary"], flows) - base
                size = loaded.maps["tables"].value_size
            if count == FEW:
                with load_rules(Ruleset([*texts, "drop log proto 200"]), Verdict.PASS) as logging:
                    costs = _cost(logging.programs["firewall_primary"], flows) - base
                yield f"firewall: {kind}, {count} rules, another logs, ns", costs
            if count == MANY:
                yield f"firewall: {kind}, {count} rules, MiB", size / (1 << 20)
    rules = rulesets.make("acl", MANY)
    yield from _peers(build, rules, base)
    yield from _replacements(rules)


def _peers(build: Path, rules: list[rulesets.BenchRule], base: float) -> Iterator[tuple[str, float]]:
    flows = list(rulesets.packets(rules, FLOWS))
    peers = BPFObject.open(build / "rules.o")
    peers.variables["count"].value = len(rules)
    with peers:
        room = peers.maps["rules"].value_size
        peers.maps["rules"][0] = b"".join(rule.packed() for rule in rules).ljust(room, b"\0")
        for name, networks in (("sources", [rule.src for rule in rules]), ("targets", [rule.dst for rule in rules])):
            for network in networks:
                peers.maps[name][network.prefixlen, int.from_bytes(network[0].packed, "little")] = 1
        yield "firewall: rule after rule, 10000, ns", _cost(peers.programs["linear"], flows, REPEAT // 100) - base
        yield "firewall: two of the kernel's tries, ns", _cost(peers.programs["tries"], flows) - base


def _replacements(rules: list[rulesets.BenchRule]) -> Iterator[tuple[str, float]]:
    """Text to rules in force, both."""
    texts = ["\n".join(rule.pf() for rule in order) for order in (rules, rules[::-1])]
    chain = "type filter hook ingress device lo priority 0; policy accept;"
    tables = [
        "\n".join(
            ["flush chain netdev t c", "table netdev t {", "chain c {", chain, *(r.nft() for r in order), "}", "}"]
        )
        for order in (rules, rules[::-1])
    ]
    with wire.pair() as pair, Firewall(pair, [], sides=["primary"]) as firewall:
        yield "replace: 10000 rules, ms", 1e3 * median(_seconds(lambda t=t: firewall.replace(t)) for t in texts * 3)
        few = ["pass", "drop"]  # the programs are verified and swapped all the same
        yield "replace: one rule, ms", 1e3 * median(_seconds(lambda t=t: firewall.replace(t)) for t in few * 3)
    with NetNS.create() as netns:
        start = f"table netdev t {{\nchain c {{\n{chain}\n}}\n}}\n"
        netns.run(["nft", "-f", "-"], input=start, text=True, check=True)
        times = []
        for table in tables * 2:
            times.append(_seconds(lambda t=table: netns.run(["nft", "-f", "-"], input=t, text=True, check=True)))
        yield "replace: nft -f of the same, ms", 1e3 * median(times)


def _cost(program: Program, flows: list[bytes], repeat: int = REPEAT) -> float:
    """The median of flows of the quickest of some runs."""
    return median(min(program.test_run(flow, repeat=repeat).duration_ns for _ in range(WARM)) for flow in flows)


def _seconds(act: object) -> float:
    start = time.perf_counter()
    act()  # type: ignore[operator]
    return time.perf_counter() - start
