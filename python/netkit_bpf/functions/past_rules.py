# SPDX-License-Identifier: MIT
"""The rules of a firewall that events name which are read later."""

from __future__ import annotations

from netkit_bpf.firewall.ruleset import Ruleset
from netkit_bpf.functions.firewall_pins import FirewallPins

_LATE = 8  # generations: a CPU may still be judging by rules that were replaced
_UNKNOWN = -1  # how many events there were before


class PastRules:
    """The rulesets that events may still name, by generation. It knows no firewall: readers outlive theirs.

    Attributes:
        pins: where other processes leave the rules that they put in force; None: nowhere.
    """

    def __init__(self, pins: FirewallPins | None = None) -> None:
        self.pins = pins
        self._rules: dict[int, tuple[Ruleset | None, int]] = {}  # None: nobody has kept them

    def add(self, generation: int, rules: Ruleset | None, logged: int) -> None:
        """Remember a ruleset that comes in force, after so many events; forget an older one if none came since then."""
        self._rules[generation] = (rules, logged)
        for late in list(self._rules)[:-_LATE][-1:]:
            if self._rules[late][1] == logged:
                self._rules.pop(late, None)

    def find(self, generation: int) -> Ruleset | None:
        """The ruleset of an event that is read now; those of much older ones are forgotten."""
        for earlier in list(self._rules):  # in the order in which they came, of which there may be thousands
            if earlier >= generation - _LATE:
                break
            self._rules.pop(earlier, None)
        if (known := self._rules.get(generation)) is not None:
            return known[0]
        pins = self.pins
        text = None if pins is None else pins.past_rules(generation)
        found = None if text is None else Ruleset.parse(text)
        self.add(generation, found, _UNKNOWN)
        return found
