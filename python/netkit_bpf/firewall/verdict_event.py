# SPDX-License-Identifier: MIT
"""Events of what rules decided."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from netkit_bpf._core import PacketEvent
from netkit_bpf.enums import Verdict
from netkit_bpf.firewall.explanation import Explanation
from netkit_bpf.firewall.rule import Rule


class VerdictEvent(NamedTuple):
    """What a rule that says `log` decided of one packet. Made by `Firewall.events`.

    Attributes:
        packet: the packet, without data.
        verdict: "next" where it passed, or was left to the programs behind and to the policy; "drop".
        number: of the rule that decided, from 0 on; None for the default.
        rule: that rule, as it was then; None for the default, and of rules that are not known any more.
        generation: how often the rules had been replaced: numbers are those of this ruleset.
    """

    packet: PacketEvent
    verdict: Verdict
    number: int | None
    rule: Rule | None
    generation: int

    def __str__(self) -> str:
        return f"{self.packet} | {Explanation(self.verdict, self.number, self.rule)}"

    def asdict(self) -> dict[str, Any]:
        """All fields by name, the packet's among them; the rule is text."""
        return {**self._judged(), **self.packet.asdict()}

    def to_json(self) -> str:
        """The same as one JSON object in one line."""
        return f"{json.dumps(self._judged())[:-1]}, {self.packet.to_json()[1:]}"

    def _judged(self) -> dict[str, Any]:
        rule = None if self.rule is None else str(self.rule)
        return {"verdict": self.verdict, "number": self.number, "rule": rule, "generation": self.generation}
