# SPDX-License-Identifier: MIT
"""What rules decided."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from netkit_bpf.firewall.rule import Rule
from netkit_bpf.firewall.ruleset import Ruleset

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SHOWN = 40  # rules in a notebook


class RuleCount(NamedTuple):
    """What a rule decided.

    Attributes:
        packets: how many packets, as the hook sees them: before segmentation.
        bytes: how long they were together, with their Ethernet headers.
        limited: how many of them exceeded the rule's rate and were dropped.
    """

    packets: int
    bytes: int
    limited: int = 0


class RuleCounts(Mapping[Rule, RuleCount]):
    """What each rule decided until now, by rule; as a numpy array in the order of the rules.

    Made by `Firewall.counters`. Rules that are the same add up.

    Attributes:
        default: what became of the packets that no rule matched.
        established: packets of established connections, which no rule judged.
        no_room: packets that passed, and whose connection could not be remembered; counted by their rule too.
    """

    def __init__(self, rules: Ruleset, counts: Sequence[int]) -> None:
        *self._counts, self.default, self.established, self.no_room = map(
            RuleCount._make, zip(*[iter(counts)] * len(RuleCount._fields), strict=True)
        )
        self._by_rule: dict[Rule, RuleCount] = {}
        for rule, count in zip(rules, self._counts, strict=True):
            before = self._by_rule.get(rule)
            self._by_rule[rule] = count if before is None else RuleCount(*map(operator.add, before, count))

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
        made = np.array(self._counts, [(field, "<u8") for field in RuleCount._fields])
        return made if dtype is None else made.astype(dtype)

    def __repr__(self) -> str:
        return f"<RuleCounts of {len(self._counts)} rules>"

    def _repr_html_(self) -> str | None:
        from netkit_bpf.internal.html import Part, Table, show

        def build() -> list[object]:
            counted = [(str(rule), *count) for rule, count in itertools.islice(self.items(), _SHOWN)]
            rest = [
                (words, *count)
                for words, count in (("no rule matched", self.default), ("established connections", self.established))
            ]
            rows = [*counted, *rest]
            most = max([1, *(row[1] for row in rows)])
            return [
                Table(
                    ("", "packets", "bytes", "over the rate", "part"),
                    [(*row, Part(row[1] / most)) for row in rows],
                    left_out=max(0, len(self) - _SHOWN),
                )
            ]

        return show(self, build)
