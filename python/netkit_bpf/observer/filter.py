# SPDX-License-Identifier: MIT
"""Filters in front of the programs of an observer."""

from __future__ import annotations

import sys
from typing import NamedTuple

from netkit_bpf._core import VERDICT_SIZE, FilterProgram, compile_filter
from netkit_bpf._core import Program as CoreProgram
from netkit_bpf.bpf.map import Map
from netkit_bpf.bpf.program import Program
from netkit_bpf.enums import Direction, Side, Verdict
from netkit_bpf.internal.arguments import expect_text


class Filter:
    """A pcap-filter(7) expression, which the kernel executes before each of an observer's programs.

    It matches what tcpdump would match on the wire with the same expression: a VLAN tag that the kernel keeps beside a
    packet counts as part of it. "protochain" follows at most 16 headers. "inbound", "outbound" and "ifindex" are
    refused: a hook sees what its own end sends, so choose the pair and the sides instead. Only the kernel's verifier
    limits its length: a hundred IPv6 hosts load in half a second, eight hundred in tens of seconds. Names are looked up
    once, on construction. Immutable: any number of observers and any thread may use it.

    Raises:
        ValueError: libpcap refuses the expression; the text is libpcap's, with the place of a syntax error.
        FileNotFoundError: libpcap is not installed.

    >>> web = Filter("tcp port 443")
    >>> with Monitor(first, filter=web), Monitor(second, filter=web):  # doctest: +SKIP
    ...     ...
    """

    def __init__(self, expression: str) -> None:
        if "\0" in expect_text(expression, "filter"):
            raise ValueError("filter must not contain a null character")
        self._expression = expression
        self._classic = compile_filter(expression)

    @property
    def expression(self) -> str:
        """The expression."""
        return self._expression

    def __repr__(self) -> str:
        return f"<Filter {self._expression!r}>"


class FilteredCounts(NamedTuple):
    """How many packets did not match a monitor's filter, on each side."""

    primary: int
    peer: int


class SideFilters:
    """The filter programs in front of an observer's own, one for each side.

    Args:
        chosen: the filter.
        cells: the map with the variables of the observer's programs.
        verdict: the place of their verdicts in there.
        recording: that of the variable which says which copy records, if there are two of each program.
    """

    def __init__(self, chosen: Filter, cells: int, verdict: int, recording: int | None = None) -> None:
        self._classic = chosen._classic
        self._cells, self._verdict, self._recording = cells, verdict, recording
        self._made: list[FilterProgram | None] = [None, None]
        self._seconds: list[FilterProgram] = []
        self._final: tuple[int, int] | None = None

    def before(self, program: CoreProgram, side: int) -> CoreProgram:
        """Return the program to attach in place of a side's program."""
        made = self._made[side] = self._make(program, side, None)
        return made.program

    def before_second(self, program: CoreProgram, side: int) -> CoreProgram:
        """The same for the second copy, after the first."""
        made = self._make(program, side, self._made[side])
        self._seconds.append(made)
        return made.program

    def _make(self, program: CoreProgram, side: int, first: FilterProgram | None) -> FilterProgram:
        verdict = self._verdict + side * VERDICT_SIZE
        recording = None if self._recording is None else self._recording + side * VERDICT_SIZE
        return FilterProgram(self._classic, program.fileno(), side, self._cells, verdict, recording, first)

    @property
    def filtered(self) -> tuple[int, int]:
        """How many packets did not match, on each side."""
        made = self._made  # read first: the programs are gone once the counts are final
        if self._final is not None:
            return self._final
        primary, peer = (0 if each is None else each.filtered for each in made)
        return primary, peer

    def close(self) -> None:
        """Close the programs; keep what they counted."""
        self._final = self.filtered
        self._made, self._seconds = [None, None], []


class Filtered:
    """A program behind a filter, on any hook: packets that do not match go on to the next program.

    Attributes:
        program: the one to attach. Without this object it sends all packets on.
    """

    def __init__(self, chosen: Filter, program: Program, side: Side | Direction) -> None:
        with Map.create("array", max_entries=1, key_size=4, value_size=VERDICT_SIZE, name="verdict") as verdict:
            verdict[0] = Verdict.NEXT.number.to_bytes(VERDICT_SIZE, sys.byteorder, signed=True)
            number = int(side in (Side.PEER, Direction.EGRESS))
            self._made = FilterProgram(chosen._classic, program._open().fileno(), number, verdict._fileno(), 0)
        self.program = Program._opened(self._made.program, program.section)
