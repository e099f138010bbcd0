# SPDX-License-Identifier: MIT
"""What a firewall must make of a frame: rules as plain data, judged one after the other with the standard library.

It shares no code with the product: frames are decoded by decoder.py, addresses compared by ipaddress.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from decoder import DCCP, ICMP, ICMPV6, SCTP, TCP, UDP, UDPLITE, Fields, decode
from netkit_bpf import Side
from netkit_bpf.events.event import Fragment

Network = IPv4Network | IPv6Network
ARP = 0x0806
LETTERS = "FSRPAUEW"
WITH_PORTS = {TCP: "tcp", UDP: "udp", SCTP: "sctp", DCCP: "dccp", UDPLITE: "udplite"}
WORDS = {**WITH_PORTS, ICMP: "icmp", ICMPV6: "icmp6", 47: "gre", 50: "esp"}


@dataclass
class Line:
    """A rule as a test has it."""

    action: str = "pass"
    side: str | None = None
    family: str | None = None
    protocols: list[int] = field(default_factory=list)
    src: list[Network] = field(default_factory=list)
    dst: list[Network] = field(default_factory=list)
    src_ports: list[tuple[int, int]] = field(default_factory=list)
    dst_ports: list[tuple[int, int]] = field(default_factory=list)
    flags: tuple[int, int] | None = None
    icmp_types: list[tuple[int, int]] = field(default_factory=list)
    icmp_code: int | None = None
    lengths: list[tuple[int, int]] = field(default_factory=list)
    fragment: str | None = None

    def __str__(self) -> str:
        words = [self.action, self.side or "", self.family or ""]
        if self.protocols:
            words += ["proto", _braces(WORDS.get(number, str(number)) for number in self.protocols)]
        for word, networks, ports in (("from", self.src, self.src_ports), ("to", self.dst, self.dst_ports)):
            if networks or ports:
                words += [word, _braces(map(str, networks)) if networks else "any"]
            if ports:
                words += ["port", _ranges(ports)]
        if self.flags:
            words += ["flags", "/".join("".join(c for i, c in enumerate(LETTERS) if f >> i & 1) for f in self.flags)]
        if self.icmp_types:
            words += ["icmp-type", _ranges(self.icmp_types)]
        if self.icmp_code is not None:
            words += ["code", str(self.icmp_code)]
        if self.lengths:
            words += ["length", _ranges(self.lengths)]
        if self.fragment:
            words += ["fragment", "" if self.fragment == "any" else self.fragment]
        return " ".join(word for word in words if word)

    def matches(self, side: str, packet: Fields) -> bool:
        """Ask of each property alone, in the plainest way."""
        family = {4: "ip", 6: "ip6"}.get(packet["family"], "arp" if packet["ethertype"] == ARP else None)  # type: ignore[call-overload]
        place = packet["fragment"]
        assert place is None or isinstance(place, Fragment)
        ports = (packet["src_port"], packet["dst_port"])
        return (
            self.side in (None, side)
            and self.family in (None, family)
            and (not self.protocols or packet["protocol"] in self.protocols)
            and _within(packet["src"], self.src)
            and _within(packet["dst"], self.dst)
            and _among(ports[0], self.src_ports)
            and _among(ports[1], self.dst_ports)
            and (self.flags is None or _flags_match(packet["tcp_flags"], *self.flags))
            and _among(packet["icmp_type"], self.icmp_types)
            and (self.icmp_code is None or packet["icmp_code"] == self.icmp_code)
            and _among(min(packet["length"], 65535), self.lengths)  # type: ignore[call-overload]
            and (
                self.fragment is None
                or (place is not None and self.fragment in ("any", "later" if place.offset else "first"))
            )
        )


def judge(lines: Sequence[Line], frame: bytes, side: Side) -> int:
    """The number of the first line that matches; how many there are if none does."""
    packet = decode(frame, side=side, pair="")
    return next((number for number, line in enumerate(lines) if line.matches(str(side), packet)), len(lines))


class Chance:
    """Random lines and addresses, of which many are at the edges of others."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.edges: list[int | None] = []
        self._usable: list[Network] = []  # in lines
        self._by_version: dict[int, list[Network]] = {4: [], 6: []}
        for _ in range(12):
            self._remember(self._new_network())

    def lines(self, count: int) -> list[Line]:
        return [self._line() for _ in range(count)]

    def address(self, version: int) -> IPv4Address | IPv6Address:
        """One at the edge of a network, next to it, or anywhere."""
        kind = IPv4Address if version == 4 else IPv6Address
        most = (1 << (32 if version == 4 else 128)) - 1
        of_version = self._by_version[version]
        if self.random.random() < 0.1 or not of_version:
            return kind(self.random.choice([0, 1, most, most - 1, self.random.randint(0, most)]))
        network = self.random.choice(of_version)
        first, last = int(network[0]), int(network[-1])
        edges = [first - 1, first, first + 1, last - 1, last, last + 1, self.random.randint(first, last)]
        return kind(min(max(self.random.choice(edges), 0), most))

    def port(self) -> int:
        return self.random.choice([0, 22, 53, 79, 80, 81, 443, 1023, 1024, 65534, 65535, self.random.randrange(65536)])

    def _new_network(self) -> Network:
        if self.random.random() < 0.5:
            base = self.random.choice([0x0A000000, 0xC0000200, 0xFFFFFF00, self.random.getrandbits(32)])
            return IPv4Network((base, self.random.choice([0, 1, 8, 15, 16, 17, 24, 31, 32])), strict=False)
        documentation = 0x20010DB8 << 96
        anything = self.random.getrandbits(128)
        base = self.random.choice([0, 0xFD << 120, documentation, documentation + (1 << 64), (1 << 128) - 1, anything])
        length = self.random.choice([0, 1, 7, 16, 17, 32, 48, 63, 64, 65, 112, 127, 128])
        return IPv6Network((base, length), strict=False)

    def _some_networks(self) -> list[Network]:
        count = self.random.choice([0, 0, 0, 1, 1, 1, 3])
        return [self._narrowed(each) for each in self.random.sample(self._usable, min(count, len(self._usable)))]

    def _remember(self, network: Network) -> None:
        self._by_version[network.version].append(network)
        if network not in MAPPED:
            self._usable.append(network)

    def _narrowed(self, network: Network) -> Network:
        """The network, or a part of it, which is another edge."""
        if self.random.random() < 0.6 or network.prefixlen == network.max_prefixlen:
            return network
        narrower = self.random.randint(network.prefixlen, network.max_prefixlen)
        address = self.random.randint(int(network[0]), int(network[-1]))
        part = type(network)((address, narrower), strict=False)
        self._remember(part)
        return part

    def _some_ranges(self, most: int, often: float) -> list[tuple[int, int]]:
        if self.random.random() > often:
            return []
        ranges = []
        for _ in range(self.random.choice([1, 1, 2, 4])):
            first = min(self.port(), most)
            last = first if self.random.random() < 0.5 else min(first + self.random.choice([1, 10, 1000, 65535]), most)
            ranges.append((first, last))
        return ranges

    def _line(self) -> Line:
        chance = self.random.random
        line = Line(action=self.random.choice(["pass", "drop"]), src=self._some_networks(), dst=self._some_networks())
        line.side = self.random.choice([None, None, "primary", "peer"])
        if chance() < 0.15:
            line.fragment = self.random.choice(["any", "first", "later"])
        if chance() < 0.1:
            line.lengths = [(0, self.random.randint(60, 120))]
        kind = self.random.choice(["any", "any", "ports", "ports", "tcp", "icmp", "others", "arp"])
        if kind == "ports" and line.fragment != "later":
            line.protocols = self.random.sample(list(WITH_PORTS), self.random.randint(1, 3))
            line.src_ports, line.dst_ports = self._some_ranges(65535, 0.3), self._some_ranges(65535, 0.8)
        elif kind == "tcp" and line.fragment != "later":
            line.protocols = [TCP]
            mask = self.random.randint(1, 255)
            line.flags = (self.random.getrandbits(8) & mask, mask)
            line.dst_ports = self._some_ranges(65535, 0.3)
        elif kind == "icmp" and line.fragment != "later":
            line.protocols = [self.random.choice([ICMP, ICMPV6])]
            line.icmp_types = self._some_ranges(255, 1.0)
            line.icmp_code = self.random.choice([None, 0, 1])
        elif kind == "others":
            line.protocols = [self.random.choice([47, 50, 253, 4, 41, TCP, UDP])]
        elif kind == "arp" and not (line.src or line.dst or line.fragment) and chance() < 0.5:
            line.family = "arp"
        self._agree(line)
        return line

    def _agree(self, line: Line) -> None:
        """Make the families agree, as a line whose families differ is refused."""
        versions = {4, 6}
        if line.icmp_types:
            versions &= {4 if line.protocols == [ICMP] else 6}
        for networks in (line.src, line.dst):
            if networks:
                versions &= {network.version for network in networks}
        if not versions:
            line.dst = []
            versions = {network.version for network in line.src} if line.src else {4, 6}
            if line.icmp_types and (4 if line.protocols == [ICMP] else 6) not in versions:
                line.src = []
                return
        if line.family is None and self.random.random() < 0.2:
            line.family = {4: "ip", 6: "ip6"}[self.random.choice(sorted(versions))]
            if line.icmp_types:
                line.family = None


MAPPED = [IPv6Network("::ffff:0:0/96")]


def _braces(words: Iterable[str]) -> str:
    items = list(words)
    return items[0] if len(items) == 1 else f"{{ {', '.join(items)} }}"


def _ranges(ranges: list[tuple[int, int]]) -> str:
    return _braces(str(first) if first == last else f"{first}-{last}" for first, last in ranges)


def _within(address: object, networks: list[Network]) -> bool:
    return not networks or any(address in network for network in networks if address is not None)


def _among(number: object, ranges: list[tuple[int, int]]) -> bool:
    return not ranges or (isinstance(number, int) and any(first <= number <= last for first, last in ranges))


def _flags_match(flags: object, given: int, mask: int) -> bool:
    return isinstance(flags, int) and flags & mask == given
