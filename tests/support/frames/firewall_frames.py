# SPDX-License-Identifier: MIT
"""Frames for a firewall, and its programs without a device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from corpus import all_packets
from decoder import DCCP, ICMP, ICMPV6, SCTP, TCP, UDP, UDPLITE
from firewall_reference import Chance, Line
from mutator import Mutator
from native import may_be_refused
from netkit_bpf import BPFObject, PacketContext, Ruleset, Side, Verdict
from netkit_bpf.functions.firewall_programs import load_rules
from packets import chained, extension, fragment, ipv4, ipv6, tagged, tcp

SIDES = (Side.PRIMARY, Side.PEER)
CORPUS = [frame for corpus in all_packets().values() for frame in corpus.values() if not may_be_refused(frame)]


class Loaded:
    """A ruleset in its programs, none of which is attached."""

    def __init__(self, rules: Ruleset | str | Sequence[Line], default: Verdict = Verdict.PASS) -> None:
        if isinstance(rules, Ruleset):
            self.rules = rules
        else:
            self.rules = Ruleset.parse(rules if isinstance(rules, str) else "\n".join(map(str, rules)))
        self.object: BPFObject = load_rules(self.rules, default, explains=True)

    def __enter__(self) -> Loaded:
        return self

    def __exit__(self, *_: object) -> None:
        self.object.close()

    def rule(self, frame: bytes, side: Side = Side.PEER) -> int:
        mark = PacketContext(mark=SIDES.index(side))
        return self.object.programs["firewall_explain"].test_run(frame, context=mark).retval

    def verdict(self, frame: bytes, side: Side = Side.PEER) -> int:
        return self.object.programs[f"firewall_{side}"].test_run(frame).retval

    def counts(self) -> list[tuple[int, int]]:
        """Packets and bytes by rule, the default last."""
        sums = self.object.maps["counts"].sum_cpus()
        return list(zip(sums[::3], sums[1::3], strict=True))[: len(self.rules) + 1]


def frames(chance: Chance, count: int) -> Iterator[tuple[bytes, Side]]:
    """Packets from and to the edges of the rules' networks, and of every kind that a parser tells apart."""
    spoilt = Mutator(CORPUS, chance.random.getrandbits(32)).packets(count)
    for _ in range(count):
        kind = chance.random.random()
        frame = next(spoilt) if kind < 0.1 else chance.random.choice(CORPUS) if kind < 0.2 else edge_frame(chance)
        yield frame, chance.random.choice(SIDES)


def edge_frame(chance: Chance, *, all_kinds: bool = True) -> bytes:
    """A packet from and to the edges of networks; with tags and later fragments among them, or without."""
    version = chance.random.choice([4, 6])
    ports = chance.port().to_bytes(2, "big") + chance.port().to_bytes(2, "big")
    protocol = chance.random.choice([TCP, TCP, UDP, UDP, UDPLITE, SCTP, DCCP, ICMP, ICMPV6, 47, 50, 253])
    if protocol == TCP:
        payload = ports + tcp(chance.random.getrandbits(8))[4:]
    elif protocol in (ICMP, ICMPV6):
        kind, code = chance.random.choice([0, 3, 8, 80, 128, 129, 255]), chance.random.choice([0, 0, 1, 2])
        payload = bytes([kind, code]) + bytes(6)
    else:
        payload = ports + bytes(20)
    later = all_kinds and chance.random.random() < 0.1
    first = chance.random.random() < 0.1
    if version == 4:
        frame = ipv4(protocol, payload, offset=64 if later else 0, more=first)
        frame = frame[:26] + chance.address(4).packed + chance.address(4).packed + frame[34:]
    else:
        chain = [fragment(64 if later else 0, more=first)] if later or first else []
        if chance.random.random() < 0.1:
            chain = [extension(60), *chain]
        frame = chained(chain, protocol, payload) if chain else ipv6(protocol, payload)
        frame = frame[:22] + chance.address(6).packed + chance.address(6).packed + frame[54:]
    return tagged(frame) if all_kinds and chance.random.random() < 0.05 else frame
