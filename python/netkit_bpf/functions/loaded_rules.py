# SPDX-License-Identifier: MIT
"""Rules with what the kernel has of them."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence

from netkit_bpf.bpf.map import Map
from netkit_bpf.enums import Side, Verdict
from netkit_bpf.firewall.counts import RuleCount
from netkit_bpf.firewall.ruleset import Ruleset
from netkit_bpf.functions.firewall_pins import PinnedRules
from netkit_bpf.functions.firewall_programs import COUNTERS, USUAL_RING, load_rules

_COUNTS = len(RuleCount._fields)  # struct nk_fw_count


class LoadedRules:
    """Rules, the programs and tables that judge by them once a firewall says so, and what they have decided.

    Args:
        rules: the rules.
        default: what becomes of a packet that no rule matches.
        log_default: whether such a packet makes an event.
        generation: how often the rules were replaced before.
        maps: those of the same firewall that are to be taken, by name.
        carried: what rules that were there before had counted, as `counts` gives it (default: nothing).
        sides: whose packets they judge.
        connections: how many established ones can be remembered; 0 for none.
        ring_size: bytes of the ring buffer for events.
    """

    def __init__(
        self,
        rules: Ruleset,
        default: Verdict,
        log_default: bool,
        generation: int = 0,
        maps: Mapping[str, Map] | None = None,
        *,
        carried: Sequence[int] | None = None,
        sides: Sequence[Side] = tuple(Side),
        connections: int = 0,
        ring_size: int = USUAL_RING,
    ) -> None:
        self.rules, self.default, self.log_default, self.generation = rules, default, log_default, generation
        self.carried = [0] * (_COUNTS * (len(rules) + COUNTERS)) if carried is None else list(carried)
        self.object = load_rules(
            rules,
            default,
            generation,
            maps,
            sides=sides,
            connections=connections,
            log_default=log_default,
            ring_size=ring_size,
        )

    def counts(self) -> list[int]:
        """What is counted until now, rule after rule, and behind them what no rule decided. Final once it is closed."""
        if self.object.closed:
            return self.carried
        return list(map(operator.add, self.carried, self.object.maps["counts"].sum_cpus()))

    def counts_for(self, kept: Sequence[int | None]) -> list[int]:
        """The same for other rules, by the numbers that they have here; None for those that are new."""
        counts, carried = self.counts(), [0] * (_COUNTS * (len(kept) + COUNTERS))
        places = [-1 if number is None else number for number in kept]
        for field in range(_COUNTS):
            before = [*counts[field::_COUNTS], 0]  # what is new has counted nothing
            carried[field::_COUNTS] = [*map(before.__getitem__, places), *before[-1 - COUNTERS : -1]]
        return carried

    def written(self) -> PinnedRules:
        """What another process must know of them."""
        return PinnedRules(self.default, self.log_default, str(self.rules), self.carried)

    def close(self) -> None:
        """Keep the counts, and let go of the rest. Idempotent."""
        try:
            self.carried = self.counts()
        finally:
            self.object.close()
