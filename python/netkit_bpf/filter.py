# SPDX-License-Identifier: MIT
"""Filters before the programs of an observer."""

from __future__ import annotations

from netkit_bpf import _core
from netkit_bpf.arguments import expect


class Filter:
    """A pcap-filter(7) expression, executed in the kernel before each of an observer's programs.

    It matches what tcpdump with the same expression would match on the wire: a VLAN tag that the kernel keeps beside a
    packet is at its place. "protochain" follows 16 headers. Not for callers: `Monitor` makes one.

    Raises:
        ValueError: libpcap refuses the expression; the text is its own, with the place of a syntax error.
        FileNotFoundError: there is no libpcap.
    """

    def __init__(self, expression: str) -> None:
        if "\0" in expect(expression, str, "filter"):
            raise ValueError("filter must not contain a null character")
        self.expression = expression
        self._classic = _core.compile_filter(expression)
        self._made: tuple[list[_core.Filter], list[_core.Filter]] = [], []
        self._final: tuple[int, int] | None = None

    def before(self, program: _core.Program, side: int, verdict_map: int, verdict_offset: int) -> _core.Program:
        """Return what is to be attached in the place of a side's program."""
        made = _core.Filter(self._classic, program.fileno(), side, verdict_map, verdict_offset)
        self._made[side].append(made)
        return made.program

    @property
    def filtered(self) -> tuple[int, int]:
        """How many packets did not match, on each side."""
        if self._final is not None:
            return self._final
        primary, peer = (sum(each.filtered for each in side) for side in self._made)
        return primary, peer

    def close(self) -> None:
        """Let the programs go; what they counted stays."""
        self._final = self.filtered
        for side in self._made:
            side.clear()
