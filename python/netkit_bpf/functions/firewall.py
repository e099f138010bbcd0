# SPDX-License-Identifier: MIT
"""The firewall: rules on the hooks of a pair, of which the first that matches a packet decides (bpf/firewall.bpf.c)."""

from __future__ import annotations

import contextlib
import warnings
from _thread import RLock  # threading's own, whose import takes long
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

from netkit_bpf.bpf.hook import Link
from netkit_bpf.bpf.object import BPFObject
from netkit_bpf.bpf.program import PacketContext
from netkit_bpf.bpf.shipped import program_file
from netkit_bpf.devices.pair import NetkitPair
from netkit_bpf.enums import Policy, Side, Verdict
from netkit_bpf.events.event import PacketEvent
from netkit_bpf.firewall.rule import Rule
from netkit_bpf.firewall.ruleset import Ruleset
from netkit_bpf.internal.arguments import expect

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NEXT, _DROP = -1, 2
_DEFAULT_ACTIONS = {Verdict.PASS: 2, Verdict.DROP: 1}  # enum nk_action, <netkit_bpf/firewall.h>
_SIDES = (Side.PRIMARY, Side.PEER)


class RuleCount(NamedTuple):
    """What a rule decided.

    Attributes:
        packets: how many packets, as the hook sees them: before segmentation.
        bytes: how long they were together, with their Ethernet headers.
    """

    packets: int
    bytes: int


class RuleCounts(Mapping[Rule, RuleCount]):
    """What each rule decided until now, by rule; as a numpy array in the order of the rules.

    Made by `Firewall.counters`. Rules that are the same add up.

    Attributes:
        default: what became of the packets that no rule matched.
    """

    def __init__(self, rules: Ruleset, counts: Sequence[RuleCount]) -> None:
        *self._counts, self.default = counts
        self._by_rule: dict[Rule, RuleCount] = {}
        for rule, count in zip(rules, self._counts, strict=True):
            self._by_rule[rule] = _sum(self._by_rule.get(rule, RuleCount(0, 0)), count)

    def __getitem__(self, rule: Rule) -> RuleCount:
        return self._by_rule[rule]

    def __iter__(self) -> Iterator[Rule]:
        return iter(self._by_rule)

    def __len__(self) -> int:
        return len(self._by_rule)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        import numpy as np

        if copy is False:
            raise ValueError("an array of counts is a copy")
        made = np.array(self._counts, [("packets", "<u8"), ("bytes", "<u8")])
        return made if dtype is None else made.astype(dtype)

    def __repr__(self) -> str:
        return f"<RuleCounts of {len(self._counts)} rules>"


class Explanation(NamedTuple):
    """Why a packet is treated as it is.

    Attributes:
        verdict: "next" where it passes, or where it is left to the programs behind and to the policy; "drop".
        number: of the rule that decides, from 0 on; None for the default.
        rule: the rule that decides; None for the default.
    """

    verdict: Verdict
    number: int | None
    rule: Rule | None

    def __str__(self) -> str:
        if self.rule is None:
            return f"{self.verdict}: no rule matches"
        place = f"rule {self.number}" if self.rule.line is None else f"line {self.rule.line}"
        return f"{self.verdict}: {place}: {self.rule}"


class Firewall:
    """Rules on the hooks of a pair: the first that matches a packet decides.

    It is attached from its construction until `close`, in front of the other programs of the hooks. A packet that a
    rule passes goes on to these (the verdict is NEXT), and passes where there are none, whatever the policy. A packet
    that no rule matches is dropped with `default="drop"`; else it is left to the programs behind, and on a side whose
    policy is blackhole to the policy. So a pair with the policy blackhole passes what the rules pass, and nothing once
    the process has ended, in whatever way.

    Any thread may use it.

    Args:
        pair: the pair.
        rules: a `Ruleset`, a text of rules (`Ruleset.parse`), or a sequence of rules and lines.
        default: what becomes of a packet that no rule matches: "pass" or "drop".
        sides: which hooks: "primary", "peer" or both. Rules of another side never match.

    Raises:
        ValueError: an argument is not possible; a text is no rules: the message names line and column.
        PermissionError: CAP_BPF or CAP_NET_ADMIN is missing.
        OSError: ENODEV, the pair is gone; ENOMEM, the kernel has no room for the tables. Nothing is attached then.

    Warns:
        UserWarning: a rule never decides, because an earlier one matches all that it matches; the text names both.

    >>> with Firewall(pair, "drop peer ip6 tcp from any to fd00::/64 port 12345") as firewall:  # doctest: +SKIP
    ...     ...
    ...     print(firewall.counters)
    """

    def __init__(
        self,
        pair: NetkitPair,
        rules: Ruleset | str | Iterable[Rule | str] = (),
        *,
        default: Verdict | str = Verdict.PASS,
        sides: Sequence[Side | str] = _SIDES,
    ) -> None:
        self._pair = expect(pair, NetkitPair, "pair")
        self._sides = _check_sides(sides)
        if default not in (Verdict.PASS, Verdict.DROP):
            raise ValueError(f"default must be 'pass' or 'drop', not {default!r}")
        self._default = Verdict(default)
        self._lock = RLock()
        self._links: dict[Side, Link] = {}
        self._rules = _ruleset(rules)
        self._object = load_rules(self._rules, self._default)
        self._carried = [RuleCount(0, 0)] * (len(self._rules) + 1)
        with contextlib.ExitStack() as undo:  # unless all of it succeeds
            undo.callback(self.close)
            self._set_verdicts(self._object)
            for side in self._sides:
                program = self._object.programs[f"firewall_{side}"]
                self._links[side] = pair.hook(side).attach(program, before="all")
            self._set_verdicts(self._object)  # somebody may have come between
            undo.pop_all()

    @property
    def rules(self) -> Ruleset:
        """The rules that are in force."""
        return self._rules

    @property
    def default(self) -> Verdict:
        """What becomes of a packet that no rule matches."""
        return self._default

    def replace(self, rules: Ruleset | str | Iterable[Rule | str]) -> None:
        """Put other rules in the place of all: each packet is judged by the old ones or by the new ones, whole.

        That is one instant for each hook. Rules that are in both keep what they have counted, and so does the default.
        On any failure the old rules stay in force.

        Raises:
            ValueError: the firewall is closed, or the rules are none.
            OSError: ENOMEM, the kernel has no room for the tables; ENOLINK, the pair is gone.
        """
        ruleset = _ruleset(rules)
        with self._lock:
            old = self._open()
            new = load_rules(ruleset, self._default)
            with contextlib.ExitStack() as undo:  # unless all of it succeeds
                undo.callback(new.close)
                self._set_verdicts(new)
                for side, link in self._links.items():
                    link.update(new.programs[f"firewall_{side}"])
                    undo.callback(link.update, old.programs[f"firewall_{side}"])
                undo.pop_all()
            counted = self._counts(old)
            kept = ruleset.numbers_in(self._rules)
            self._carried = [RuleCount(0, 0) if number is None else counted[number] for number in [*kept, -1]]
            self._object, self._rules = new, ruleset
            old.close()

    def replace_set(self, name: str, networks: Iterable[Any]) -> None:
        """Put other addresses in the place of a set's, as `replace` does.

        Raises:
            KeyError: the rules have no set of this name.
            ValueError: an address is none.

        >>> firewall.replace_set("friends", ["192.0.2.0/24", "fd00::/8"])  # doctest: +SKIP
        """
        with self._lock:
            self.replace(self._rules.with_set(name, networks))

    @property
    def counters(self) -> RuleCounts:
        """What each rule decided until now. After `close`, the final counts."""
        with self._lock:
            return RuleCounts(self._rules, self._carried if self.closed else self._counts(self._object))

    def explain(self, packet: bytes | PacketEvent, side: Side | str | None = None) -> Explanation:
        """Tell which rule decides what becomes of a packet. Nothing is counted.

        Args:
            packet: its bytes from the Ethernet header on, or an event of it.
            side: whose packet it is, of bytes; an event tells.

        Raises:
            ValueError: the firewall is closed; bytes without a side, or an event with one.

        >>> print(firewall.explain(event))  # doctest: +SKIP
        drop: line 3: drop peer ip6 tcp from any to fd00::/64 port 12345
        """
        with self._lock:
            obj, rules = self._open(), self._rules
            if isinstance(packet, PacketEvent):
                if side is not None:
                    raise ValueError("side is for bytes: an event tells its side")
                number = rules.match(packet)
            else:
                if side is None:
                    raise ValueError("side is missing: bytes do not tell whose packet they are")
                mark = PacketContext(mark=_SIDES.index(_side(side, "side")))
                with _explainer(obj) as explainer:
                    number = explainer.programs["firewall_explain"].test_run(packet, context=mark).retval
        if number is None or number >= len(rules):
            return Explanation(Verdict.DROP if self._default is Verdict.DROP else Verdict.NEXT, None, None)
        rule = rules[number]
        return Explanation(Verdict.DROP if rule.action is Verdict.DROP else Verdict.NEXT, number, rule)

    def check(self) -> None:
        """Look again at the policies and at what else is attached, for the packets that no rule matches.

        To be called after a change of policy, or of the programs behind this one on a blackhole.

        Raises:
            ValueError: the firewall is closed.
            OSError: ENODEV, the pair is gone.
        """
        with self._lock:
            self._set_verdicts(self._open())

    def close(self) -> None:
        """Take the rules off the hooks. Idempotent."""
        with self._lock, contextlib.ExitStack() as last_first:  # whatever fails, the rest is closed
            if self.closed:
                return
            last_first.callback(self._object.close)
            last_first.callback(self._keep_counts)
            for link in self._links.values():
                last_first.callback(link.close)
                last_first.callback(link.detach)

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._object.closed

    def __enter__(self) -> Firewall:
        self._open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Firewall of {len(self._rules)} rules, {'closed' if self.closed else 'open'}>"

    def _open(self) -> BPFObject:
        if self._object.closed:
            raise ValueError("the firewall is closed")
        return self._object

    def _counts(self, obj: BPFObject) -> list[RuleCount]:
        """What is counted until now, the default last."""
        carried = self._carried
        found = obj.maps["counts"].values()
        return [_sum(before, *map(RuleCount._make, now)) for before, now in zip(carried, found, strict=True)]

    def _keep_counts(self) -> None:
        self._carried = self._counts(self._object)

    def _set_verdicts(self, obj: BPFObject) -> None:
        """Say what a packet that no rule matches is left to: the next program, or the policy behind the last."""
        verdicts = [_NEXT, _NEXT]
        for number, side in enumerate(_SIDES):
            policy = self._pair.policy if side is Side.PRIMARY else self._pair.peer_policy
            if side not in self._sides or policy is not Policy.BLACKHOLE:
                continue
            programs = self._pair.hook(side).programs
            link = self._links.get(side)
            if not programs or (link is not None and programs[-1].link_id == link.id):
                verdicts[number] = _DROP
        obj.variables["verdict"].value = verdicts


def _sum(*counts: RuleCount) -> RuleCount:
    return RuleCount(sum(each.packets for each in counts), sum(each.bytes for each in counts))


def _ruleset(rules: Ruleset | str | Iterable[Rule | str]) -> Ruleset:
    if isinstance(rules, Ruleset):
        return rules
    return Ruleset.parse(rules) if isinstance(rules, str) else Ruleset(rules)


def load_rules(rules: Ruleset, default: Verdict, *, explains: bool = False) -> BPFObject:
    """Make the tables and load the programs, that for explanations too or not: nothing is attached yet."""
    tables = rules.compile()
    for text in tables.warnings():
        warnings.warn(text, stacklevel=3)
    obj = BPFObject.open(program_file("firewall"))
    with contextlib.ExitStack() as undo:
        undo.callback(obj.close)
        obj.variables["layout_words"].value = tables.layout
        obj.variables["default_action"].value = _DEFAULT_ACTIONS[default]
        obj.programs["firewall_explain"].autoload = explains
        obj.maps["tables"].value_size = len(tables.bytes)
        obj.maps["counts"].max_entries = len(rules) + 1
        obj.load()
        obj.maps["tables"][0] = tables.bytes
        undo.pop_all()
    return obj


def _explainer(loaded: BPFObject) -> BPFObject:
    """The program that explains, with the tables of what is loaded. Few ask for it, and loading takes time."""
    obj = BPFObject.open(program_file("firewall"))
    obj.variables["layout_words"].value = loaded.variables["layout_words"].value
    for name, program in obj.programs.items():
        program.autoload = name == "firewall_explain"
    obj.maps["tables"].value_size = loaded.maps["tables"].value_size
    obj.maps["tables"].reuse(loaded.maps["tables"])
    return obj


def _side(side: Side | str, argument: str) -> Side:
    try:
        return Side(side)
    except ValueError:
        raise ValueError(f"{argument} must be 'primary' or 'peer', not {side!r}") from None


def _check_sides(sides: Sequence[Side | str]) -> tuple[Side, ...]:
    if isinstance(sides, str):
        sides = (sides,)
    expect(sides, Sequence, "sides")  # type: ignore[type-abstract]
    parsed = tuple(_side(side, "sides") for side in sides)
    if not parsed or len(set(parsed)) != len(parsed):
        raise ValueError("sides must name one or both sides, each once")
    return parsed
