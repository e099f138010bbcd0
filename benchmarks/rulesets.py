"""Rules like those of ClassBench (Taylor and Turner, 2007): access lists, firewalls, IP chains; and what meets them."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network
from typing import NamedTuple

PORTS = (21, 22, 23, 25, 53, 80, 110, 123, 135, 139, 161, 389, 443, 445, 993, 1433, 1521, 3306, 3389, 5060, 8080)
RANGES = ((1024, 65535), (0, 1023), (6000, 6063), (20, 21), (137, 139), (33000, 34000))
ANY = (0, 65535)


class Shape(NamedTuple):
    """How long the prefixes of a kind are, and how often a rule asks for ports."""

    src: tuple[int, ...]
    dst: tuple[int, ...]
    src_port: float
    dst_port: float


SHAPES = {
    "acl": Shape((32, 32, 32, 24, 24, 28, 21, 16, 0), (32, 32, 32, 32, 30, 27, 24), 0.0, 0.9),
    "fw": Shape((0, 0, 8, 16, 24, 32, 32), (0, 16, 24, 28, 32, 32, 32), 0.3, 0.6),
    "ipc": Shape((32, 32, 24, 24, 16, 8, 0), (32, 32, 32, 27, 24, 16, 0), 0.3, 0.7),
}


class BenchRule(NamedTuple):
    """A rule of IPv4, all of it."""

    action: str
    protocol: int
    src: IPv4Network
    dst: IPv4Network
    src_port: tuple[int, int]
    dst_port: tuple[int, int]

    def pf(self) -> str:
        """As this package reads it."""
        words = [self.action, {6: "tcp", 17: "udp", 0: "ip"}[self.protocol]]
        for word, network, ports in (("from", self.src, self.src_port), ("to", self.dst, self.dst_port)):
            words += [word, str(network) if network.prefixlen else "any"]
            if ports != ANY:
                words += ["port", "-".join(map(str, ports)) if ports[0] != ports[1] else str(ports[0])]
        return " ".join(words)

    def nft(self) -> str:
        """As nft(8) does."""
        words = [f"meta l4proto {self.protocol}"] if self.protocol else []
        words += [f"ip saddr {self.src}"] if self.src.prefixlen else []
        words += [f"ip daddr {self.dst}"] if self.dst.prefixlen else []
        words += [f"th sport {self.src_port[0]}-{self.src_port[1]}"] if self.src_port != ANY else []
        words += [f"th dport {self.dst_port[0]}-{self.dst_port[1]}"] if self.dst_port != ANY else []
        return " ".join([*words, "counter", "accept" if self.action == "pass" else "drop"])

    def packed(self) -> bytes:
        """As peers/rules.bpf.c compares it, one rule after the other."""
        masks = (int(self.src.netmask), int(self.dst.netmask))
        ends = (int(self.src[0]), masks[0], int(self.dst[0]), masks[1])
        return struct.pack("=IIIIHHHHII", *ends, *self.src_port, *self.dst_port, self.protocol, self.action == "drop")


def make(kind: str, count: int) -> list[BenchRule]:
    """So many different rules; the same ones each time."""
    chance = random.Random(f"{kind} {count}")
    shape = SHAPES[kind]
    sources = [_network(chance, shape.src) for _ in range(max(8, count // 2))]
    targets = [_network(chance, shape.dst) for _ in range(max(8, count // 2))]
    rules: dict[BenchRule, None] = {}
    while len(rules) < count:
        src, dst = chance.choice(sources), chance.choice(targets)
        if src.prefixlen + dst.prefixlen < 24:  # which would hide all that is behind it
            continue
        protocol = chance.choice([6] * 6 + [17] * 3 + [0])
        src_port = _ports(chance, shape.src_port if protocol else 0)
        dst_port = _ports(chance, shape.dst_port if protocol else 0)
        rules[BenchRule(chance.choice(["pass", "drop"]), protocol, src, dst, src_port, dst_port)] = None
    return list(rules)


def packets(rules: list[BenchRule], count: int) -> Iterator[bytes]:
    """TCP and UDP over IPv4, each of which a rule chosen at random matches, behind an Ethernet header."""
    chance = random.Random(len(rules))
    for _ in range(count):
        rule = chance.choice(rules)
        addresses = [chance.randint(int(network[0]), int(network[-1])) for network in (rule.src, rule.dst)]
        ports = struct.pack("!HH", chance.randint(*rule.src_port), chance.randint(*rule.dst_port))
        header = struct.pack("!BBHHHBBHII", 0x45, 0, 40, 0, 0, 64, rule.protocol or 6, 0, *addresses)
        yield bytes(12) + b"\x08\0" + header + ports + bytes.fromhex("00000000 00000000 50100000 00000000")


def _network(chance: random.Random, lengths: tuple[int, ...]) -> IPv4Network:
    return IPv4Network((IPv4Address(chance.getrandbits(32)), chance.choice(lengths)), strict=False)


def _ports(chance: random.Random, often: float) -> tuple[int, int]:
    if chance.random() >= often:
        return ANY
    if chance.random() < 0.2:
        return chance.choice(RANGES)
    port = chance.choice([*PORTS, chance.randrange(1, 65535)])
    return port, port
