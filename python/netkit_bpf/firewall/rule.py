# SPDX-License-Identifier: MIT
"""One rule of a firewall: what pf.conf(5) and pcap-filter(7) have words for."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import TYPE_CHECKING

from netkit_bpf._core import Rule as CoreRule
from netkit_bpf.enums import Side, Verdict
from netkit_bpf.internal.arguments import expect, expect_in, expect_text, expect_word

if TYPE_CHECKING:
    Network = ipaddress.IPv4Network | ipaddress.IPv6Network
    Address = str | Network | ipaddress.IPv4Address | ipaddress.IPv6Address
    Addresses = Address | Iterable[Address]
    Ports = int | str | range | Iterable[int | str | range]

_FAMILIES = {1: "ip", 2: "ip6", 3: "arp"}
_FAMILY_NUMBERS: dict[object, int] = {"ip": 1, "inet": 1, 4: 1, "ip6": 2, "inet6": 2, 6: 2, "arp": 3}
_FRAGMENTS = ("any", "first", "later")


class Rule:
    """What becomes of which packets. What is not given is any; a packet has to match all that is given.

    Immutable; rules that say the same are equal. `str(rule)` is the line that `Ruleset.parse` reads.

    A packet without what a rule asks for does not match it: a later fragment, or a header that is cut, has no ports; a
    packet whose chain of IPv6 extension headers cannot be followed has no protocol; what is not IP has no addresses.
    Tags of VLANs are skipped, two within the packet and one beside it.

    Args:
        action: "pass" or "drop".
        side: whose packets: "primary" or "peer".
        log: whether each packet that it decides makes an event: `Firewall.events`.
        family: "ip" (or 4), "ip6" (or 6) or "arp".
        src: where they come from: an address, a network, several in a sequence, or the name of a set, "<friends>".
        dst: where they go to, likewise.
        protocol: "tcp", "udp", "icmp", "icmp6", ..., a number, or several.
        src_port: a port, a range ("1024-65535" or `range(1024, 65536)`), or several. Without a protocol it is about all
            that have ports: TCP, UDP, UDP-Lite, SCTP and DCCP.
        dst_port: likewise.
        icmp_type: a number, a word ("echoreq"), a range, or several; the protocol is icmp or icmp6.
        icmp_code: a number.
        tcp_flags: "S/SA": of the flags behind the slash those before it are set and the others are not. The letters are
            F, S, R, P, A, U, E and W; the protocol is tcp.
        length: bytes of the packet as `PacketEvent.length` counts them, with the Ethernet header and before
            segmentation: a number, a range, or several. 65535 stands for that and more.
        fragment: "any" fragment, the "first" or a "later" one.
        rate: how many packets it passes at most, "100/s", "20/min", "5/h" or "1/d"; what exceeds it is dropped, as with
            max-pkt-rate of pf.conf(5). Of established connections it counts those packets that the rules judge.
        burst: how many may come at once; the bucket holds so many tokens and is filled at the rate.
        name: what it is called. Rules of different names are not equal.

    Raises:
        ValueError: a value is not possible, or the rule contradicts itself, so that it would never match.

    >>> rule = Rule("drop", side="peer", dst="fd00::/64", protocol="tcp", dst_port=12345)
    >>> str(rule)
    'drop peer tcp from any to fd00::/64 port 12345'
    """

    __slots__ = ("_core",)
    _core: CoreRule

    def __init__(
        self,
        action: Verdict | str,
        *,
        side: Side | str | None = None,
        log: bool = False,
        family: str | int | None = None,
        src: Addresses | None = None,
        dst: Addresses | None = None,
        protocol: str | int | Iterable[str | int] | None = None,
        src_port: Ports | None = None,
        dst_port: Ports | None = None,
        icmp_type: Ports | None = None,
        icmp_code: int | None = None,
        tcp_flags: str | None = None,
        length: Ports | None = None,
        fragment: str | None = None,
        rate: str | None = None,
        burst: int = 5,
        name: str = "",
    ) -> None:
        if action not in ("pass", "drop"):
            raise ValueError(f"action must be 'pass' or 'drop', not {action!r}")
        if family is not None and family not in _FAMILY_NUMBERS:
            raise ValueError(f"family must be 'ip', 'ip6' or 'arp', not {family!r}")
        if fragment is not None and fragment not in _FRAGMENTS:
            raise ValueError(f"fragment must be 'any', 'first' or 'later', not {fragment!r}")
        if any(not letter.isprintable() for letter in expect(name, str, "name")):
            raise ValueError(f"name {name!r} must be one line of printable letters")
        fields = {
            "src": src,
            "dst": dst,
            "protocol": protocol,  # before what it is asked for
            "src_port": src_port,
            "dst_port": dst_port,
            "icmp_type": icmp_type,
            "tcp_flags": tcp_flags,
            "length": length,
            "rate": None if rate is None else f"{expect_text(rate, 'rate')} burst {expect(burst, int, 'burst')}",
        }
        core = CoreRule.make(
            is_drop=action == "drop",
            side=None if side is None else expect_word(side, Side, "side").number,
            log=expect(log, bool, "log"),
            family=None if family is None else _FAMILY_NUMBERS[family],
            fields=[(field, _words(value, field)) for field, value in fields.items() if value is not None],
            icmp_code=None if icmp_code is None else expect_in(icmp_code, range(256), "icmp_code"),
            fragment=None if fragment is None else _FRAGMENTS.index(fragment),
            label=name,
        )
        object.__setattr__(self, "_core", core)

    @classmethod
    def parse(cls, text: str) -> Rule:
        """Read one rule.

        Raises:
            ValueError: the text is none; the message names line and column and what was expected.

        >>> Rule.parse("drop peer ip6 tcp from any to fd00::/64 port 12345").dst_port
        (range(12345, 12346),)
        """
        return cls._of(CoreRule(expect_text(text, "text")))

    @classmethod
    def _of(cls, core: CoreRule) -> Rule:
        rule = cls.__new__(cls)
        object.__setattr__(rule, "_core", core)
        return rule

    @property
    def action(self) -> Verdict:
        """Whether the packets pass or are dropped."""
        return Verdict.DROP if self._core.is_drop else Verdict.PASS

    @property
    def side(self) -> Side | None:
        """Whose packets it is about."""
        return None if self._core.side is None else Side.from_number(self._core.side)

    @property
    def log(self) -> bool:
        """Whether each packet that it decides makes an event."""
        return self._core.log

    @property
    def family(self) -> str | None:
        """Which family was asked for: "ip", "ip6" or "arp"."""
        return None if self._core.family is None else _FAMILIES[self._core.family]

    @property
    def src(self) -> tuple[Network, ...] | str | None:
        """Where the packets come from: networks, or the name of a set in angle brackets."""
        return _networks(self._core.src)

    @property
    def dst(self) -> tuple[Network, ...] | str | None:
        """Where they go to."""
        return _networks(self._core.dst)

    @property
    def protocol(self) -> tuple[str, ...]:
        """Protocols; none for any. One without a word is a number."""
        return tuple(self._core.protocols)

    @property
    def src_port(self) -> tuple[range, ...]:
        """Source ports; none for any."""
        return _ranges(self._core.src_ports)

    @property
    def dst_port(self) -> tuple[range, ...]:
        """Destination ports; none for any."""
        return _ranges(self._core.dst_ports)

    @property
    def icmp_type(self) -> tuple[range, ...]:
        """Types of ICMP; none for any."""
        return _ranges(self._core.icmp_types)

    @property
    def icmp_code(self) -> int | None:
        """The code of ICMP."""
        return self._core.icmp_code

    @property
    def tcp_flags(self) -> str | None:
        """Flags that are set, and behind a slash those that are looked at."""
        return self._core.tcp_flags

    @property
    def length(self) -> tuple[range, ...]:
        """Lengths; none for any."""
        return _ranges(self._core.lengths)

    @property
    def fragment(self) -> str | None:
        """Which fragments: "any", "first" or "later"; None for packets of all kinds."""
        return None if self._core.fragment is None else _FRAGMENTS[self._core.fragment]

    @property
    def rate(self) -> str | None:
        """How many packets it passes at most."""
        return None if self._core.rate is None else self._core.rate[0]

    @property
    def burst(self) -> int | None:
        """How many of these may come at once."""
        return None if self._core.rate is None else self._core.rate[1]

    @property
    def name(self) -> str:
        """What it is called; empty for nothing."""
        return self._core.label

    @property
    def line(self) -> int | None:
        """The line of the text that it was read from."""
        return self._core.line or None

    def __eq__(self, other: object) -> bool:
        return self._core == other._core if isinstance(other, Rule) else NotImplemented

    def __hash__(self) -> int:
        return hash(str(self))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a rule does not change: make another with another {name}")

    def __reduce__(self) -> tuple[object, ...]:
        return Rule.parse, (str(self),)

    def __str__(self) -> str:
        return self._core.text()

    def __repr__(self) -> str:
        return f"<Rule {self}>"


def _words(value: object, field: str) -> str:
    """What stands for a value in a line."""
    if isinstance(value, bool):
        raise TypeError(f"{field} must not be a bool")
    if isinstance(value, range):
        if value.step != 1 or not value:
            raise ValueError(f"{field} must be a range with numbers and step 1, not {value!r}")
        return f"{value.start}-{value.stop - 1}"
    if isinstance(value, (str, int, ipaddress._BaseNetwork, ipaddress._BaseAddress)):
        return expect_text(str(value), field)
    if isinstance(value, Iterable) and not isinstance(value, (bytes, bytearray)):
        items = [_words(item, field) for item in value]
        if not items:
            raise ValueError(f"{field} is empty: leave it out for any")
        return f"{{ {', '.join(items)} }}"
    raise TypeError(f"{field} must not be of type {type(value).__name__}")


def _networks(words: list[str] | tuple[str, ...] | str | None) -> tuple[Network, ...] | str | None:
    return tuple(map(ipaddress.ip_network, words)) if isinstance(words, tuple) else words  # type: ignore[return-value]


def _ranges(pairs: list[tuple[int, int]]) -> tuple[range, ...]:
    return tuple(range(first, last + 1) for first, last in pairs)
