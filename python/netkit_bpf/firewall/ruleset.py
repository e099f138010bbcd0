# SPDX-License-Identifier: MIT
"""Rules in their order, with the sets of addresses that they name."""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, overload

from netkit_bpf._core import PacketEvent, RulePacket
from netkit_bpf._core import Ruleset as CoreRuleset
from netkit_bpf.enums import Side
from netkit_bpf.firewall.packet import packet_of
from netkit_bpf.firewall.rule import Rule, _words
from netkit_bpf.internal.arguments import expect, expect_text, expect_word

_SHOWN = 40  # rules in a notebook

if TYPE_CHECKING:
    from netkit_bpf._core import RuleTables
    from netkit_bpf.firewall.rule import Address, Network


class Ruleset(Sequence[Rule]):
    """Rules, of which the first that matches a packet decides, and sets of addresses by name. Immutable.

    Args:
        rules: rules, or lines of text with one rule each.
        sets: addresses and networks by the name that rules know them by: `{"friends": ["192.0.2.0/24"]}` for rules
            about "<friends>". A set may be empty, or hold 100,000 networks.

    Raises:
        ValueError: a line is no rule, a rule names a set that there is not, or an address is none.

    >>> rules = Ruleset(["pass tcp from <friends>", "drop tcp to any port 22"], {"friends": ["fd00::/8"]})
    >>> len(rules)
    2
    """

    def __init__(
        self, rules: Iterable[Rule | str] = (), sets: Mapping[str, Iterable[Address] | Address] | None = None
    ) -> None:
        if isinstance(rules, str):
            raise TypeError("rules must be rules or lines of text; a whole text is read by Ruleset.parse()")
        chosen = [Rule.parse(rule) if isinstance(rule, str) else expect(rule, Rule, "rules") for rule in rules]
        if sets is not None:
            expect(sets, Mapping, "sets")  # type: ignore[type-abstract]
        texts = {_check_name(name): _set_text(name, networks) for name, networks in (sets or {}).items()}
        for rule in chosen:
            for end in (rule._core.src, rule._core.dst):
                if isinstance(end, str) and end[1:-1] not in texts:
                    raise ValueError(f"rule '{rule}' names a set that is not given: {end}")
        self._core = CoreRuleset.make([rule._core for rule in chosen], texts)

    @classmethod
    def parse(cls, text: str) -> Ruleset:
        """Read a text with one rule a line.

        `pass` or `drop`, and then what the packets have: `primary` or `peer`, `log`, `ip`, `ip6` or `arp`, a protocol,
        `from ADDRESS port PORT`, `to ADDRESS port PORT`, `flags S/SA`, `icmp-type echoreq code 0`, `length 0-1280`,
        `fragment`, `fragment first`, `fragment later`, `rate 100/s burst 200`, `label "TEXT"`. Several stand in
        braces: `{ 80, 443 }`.

        `# ` begins a comment. `web = { 80, 443 }` gives a variable its value, for all lines below: `port $web`.
        `table <friends> { 192.0.2.0/24, fd00::/8 }` makes a set: `from <friends>`.

        Raises:
            ValueError: something else stands there; the message names line and column and what was expected.

        >>> print(Ruleset.parse('''
        ... web = { 80, 443 }                     # ports
        ... pass tcp from any to fd00::/64 port $web
        ... drop ip6
        ... '''))
        pass tcp from any to fd00::/64 port { 80, 443 }
        drop ip6
        """
        return cls._of(CoreRuleset.parse(expect_text(text, "text")))

    @classmethod
    def _of(cls, core: CoreRuleset) -> Ruleset:
        ruleset = cls.__new__(cls)
        ruleset._core = core
        return ruleset

    @property
    def sets(self) -> dict[str, tuple[Network, ...]]:
        """The sets of addresses by name: a copy."""
        return {name: tuple(map(ipaddress.ip_network, words)) for name, words in self._core.sets.items()}

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is odd: each rule that never decides, because an earlier one matches all that it matches.

        Both are named by their lines, or by their numbers where they were not read from a text. A rule that several
        earlier ones hide together is not found. Each rule is compared with all that overlap it; where these are
        millions, with the first 256, and the last warning says from which rule on.
        """
        return tuple(self.compile().warnings())

    def compile(self) -> RuleTables:
        """Make the tables in which bpf/firewall.bpf.c looks packets up (<netkit_bpf/firewall.h>), with their layout.

        Raises:
            ValueError: they would take more than 256 MiB.
        """
        return self._core.compile()

    def match(self, packet: PacketEvent | str, side: Side | str | None = None) -> int | None:
        """Return the number of the first rule that matches a packet; None if none does.

        Args:
            packet: an event of it, or words: those of a rule that is about this one packet, without action and side.
                `flags` are those that are set. Without them a TCP packet has SYN, without a code an ICMP message has 0,
                and without a length a packet has nothing behind its headers.
            side: whose packet the words tell of.

        Raises:
            ValueError: the words are none, or not about one packet; the message names line and column. Words without a
                side, or an event with one.

        >>> rules = Ruleset(["drop udp", "pass tcp"])
        >>> rules.match("tcp from fd00::1 port 1024 to fd00::2 port 22 flags SA", "peer")
        1
        >>> [rules.match(event) for event in monitor.read_batch()]  # doctest: +SKIP
        [1, 0, 0, None]
        """
        if (side is None) == isinstance(packet, str):
            raise ValueError("side is whose packet it is, and is said for words alone: an event tells")
        if isinstance(packet, str):
            known = RulePacket.parse(expect_text(packet, "packet"), expect_word(side, Side, "side").number)
        else:
            known = packet_of(expect(packet, PacketEvent, "packet"))
        found = self._compiled.matching(known, 1)
        return found[0] if found else None

    def numbers_in(self, other: Ruleset) -> list[int | None]:
        """Return for each rule the number that the same rule has in another ruleset; None where it has none."""
        numbers = self._core.same_rules(expect(other, Ruleset, "other")._core)
        return [None if number < 0 else number for number in numbers]

    def with_set(self, name: str, networks: Iterable[Address] | Address) -> Ruleset:
        """Return the same rules with another set of addresses by this name, which they have already.

        Raises:
            KeyError: there is no set of this name.
            ValueError: an address is none.
        """
        if name not in self._core.set_names():
            raise KeyError(name)
        return Ruleset._of(self._core.with_set(name, _set_text(name, networks)))

    @functools.cached_property
    def _compiled(self) -> RuleTables:
        return self.compile()

    @overload
    def __getitem__(self, index: int) -> Rule: ...
    @overload
    def __getitem__(self, index: slice) -> list[Rule]: ...
    def __getitem__(self, index: int | slice) -> Rule | list[Rule]:
        numbers = range(len(self))[index]  # raises what a list raises
        if isinstance(numbers, range):
            return [self[number] for number in numbers]
        return Rule._of(self._core.rule(numbers))

    def __len__(self) -> int:
        return len(self._core)

    def __iter__(self) -> Iterator[Rule]:
        return (self[number] for number in range(len(self)))

    def __eq__(self, other: object) -> bool:
        return self._core == other._core if isinstance(other, Ruleset) else NotImplemented

    def __hash__(self) -> int:
        return hash(str(self))

    def __reduce__(self) -> tuple[object, ...]:
        return Ruleset.parse, (str(self),)

    def __str__(self) -> str:
        return self._core.text().removesuffix("\n")

    def _repr_html_(self) -> str | None:
        from netkit_bpf.internal.html import Table, show

        def build() -> list[object]:
            rows = [(str(number), str(rule)) for number, rule in enumerate(self[:_SHOWN], 1)]
            return [Table(("", "rule"), rows, left_out=max(0, len(self) - _SHOWN))]

        return show(self, build)

    def __repr__(self) -> str:
        return f"<Ruleset of {len(self)} rules>"


def _check_name(name: object) -> str:
    if not re.fullmatch(r"[\w-]{1,31}", expect(name, str, "sets"), re.ASCII):
        raise ValueError(f"the name of a set must be 1 to 31 letters, digits, _ and -, not {name!r}")
    return str(name)


def _set_text(name: str, networks: Iterable[Address] | Address) -> str:
    network_types = (str, ipaddress.IPv4Network, ipaddress.IPv6Network)  # which iterate over something else
    if isinstance(networks, network_types) or not isinstance(networks, Iterable):
        networks = (networks,)
    return "\n".join(_words(network, f"set {name!r}") for network in networks)
