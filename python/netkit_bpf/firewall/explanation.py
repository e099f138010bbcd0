# SPDX-License-Identifier: MIT
"""Why a packet is treated as it is."""

from __future__ import annotations

from typing import NamedTuple

from netkit_bpf.enums import Verdict
from netkit_bpf.firewall.rule import Rule


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
        if self.number is None:
            return f"{self.verdict}: no rule matches"
        if self.rule is None:
            return f"{self.verdict}: rule {self.number} of rules that are not known any more"
        place = f"rule {self.number}" if self.rule.line is None else f"line {self.rule.line}"
        return f"{self.verdict}: {place}: {self.rule}"
