# SPDX-License-Identifier: MIT
"""Observers: programs that see every packet of a pair and alter nothing (drivers/net/netkit.c for what policies do)."""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING

from netkit_bpf._core import Observer as CoreObserver
from netkit_bpf._core import Program as CoreProgram
from netkit_bpf.bpf.program import Program
from netkit_bpf.bpf.variable import Variable
from netkit_bpf.enums import Side, parse
from netkit_bpf.events.stats import Filtered
from netkit_bpf.internal.arguments import expect
from netkit_bpf.internal.resource import Closing
from netkit_bpf.observer.filter import Filter, Filtering

if TYPE_CHECKING:  # which imports this module
    from netkit_bpf.devices.pair import NetkitPair

_VERDICT_SIZE = 4  # __s32


class Observation(Closing):
    """Keeps an observer's programs on the hooks of a pair, and what they return in accord with the pair's policies.

    Made by `NetkitPair.observe`. As a context manager it is closed on exit. Any thread may use it. The pair may be
    renamed; once its primary is moved to another namespace, changes of policy are not followed any more. The object of
    the programs may be closed before, unless they call each other by way of a program array: its last holder empties
    it.
    """

    def __init__(
        self,
        pair: NetkitPair,
        programs: Mapping[Side | str, Program],
        verdict: Variable,
        name: str,
        filter: str | Filter | None,  # noqa: A002 - tcpdump's and libpcap's word
    ) -> None:
        """Not for callers: use `NetkitPair.observe`."""
        by_side = _by_side(programs)
        expect(verdict, Variable, "verdict")
        core = verdict._open()
        section, offset, size = core.variable(verdict.name)
        if not verdict._loaded:
            raise ValueError(f"variable '{verdict.name}' is of an object that is not loaded: call its load() first")
        if size != 2 * _VERDICT_SIZE:
            raise ValueError(f"variable '{verdict.name}' has {size} bytes: a verdict for each side is __s32[2]")
        self._name = expect(name, str, "name")
        self._filter = filter if isinstance(filter, Filter) or filter is None else Filter(filter)
        cells = core.map(section)
        primary, peer = by_side.get(Side.PRIMARY), by_side.get(Side.PEER)
        self._filtering = None if self._filter is None else Filtering(self._filter)
        if self._filtering is not None:
            primary = primary and self._filtering.before(primary, 0, cells, offset)
            peer = peer and self._filtering.before(peer, 1, cells, offset + _VERDICT_SIZE)
        device = pair.primary
        space = device.netns._open()
        self._pair = weakref.ref(pair)  # a pair that is dropped is deleted
        self._device = device.name
        self._sides = tuple(side for side in Side if side in by_side)
        self._start_ns = time.time_ns()
        attachment = CoreObserver(name, space, self._device, device.ifindex, primary, peer, cells, offset)
        self._held = [attachment]  # until it is closed
        self._closer = weakref.finalize(self, _close, self._held, self._filtering, os.getpid())

    @property
    def device(self) -> str:
        """The name that the pair's primary had when the programs were attached."""
        return self._device

    @property
    def sides(self) -> tuple[Side, ...]:
        """The sides that are seen."""
        return self._sides

    @property
    def start_ns(self) -> int:
        """When that was: nanoseconds of Unix time."""
        return self._start_ns

    @property
    def filter(self) -> Filter | None:
        """The filter before the programs, if there is one."""
        return self._filter

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return not self._closer.alive

    def check(self) -> None:
        """Look again at the policies and at what else is attached, and set the verdicts.

        Raises:
            ValueError: the observation is closed.
            OSError: ENODEV, the pair was deleted, or somebody detached a program.
        """
        self._open().check()

    @property
    def filtered(self) -> Filtered:
        """How many packets did not match the filter, a side each. After `close`, the final counts."""
        return Filtered(0, 0) if self._filtering is None else Filtered(*self._filtering.filtered)

    def close(self) -> None:
        """Detach the programs: once this returns they see no packet any more. Idempotent."""
        self._closer()

    def __repr__(self) -> str:
        return f"<Observation {self._name} of {self._device} {'closed' if self.closed else 'open'}>"

    def _open(self) -> CoreObserver:
        held = self._held[:]  # another thread may be closing
        if self.closed or not held:
            raise ValueError(f"the observation of {self._device} is closed")
        return held[0]

    def _peer_name(self) -> str | None:
        """What the pair's peer is called now, if that can be told."""
        pair = self._pair()
        try:
            peer = None if pair is None else pair._find_peer()
        except (OSError, ValueError):
            return None  # its namespace is gone
        return None if peer is None else peer._known_name


def _by_side(programs: Mapping[Side | str, Program]) -> dict[Side, CoreProgram]:
    expect(programs, Mapping, "programs")  # type: ignore[type-abstract]
    if not programs:
        raise ValueError("programs must have a program for one side or both")
    return {
        parse(Side, side, "programs"): expect(program, Program, "programs")._open()
        for side, program in programs.items()
    }


def _close(held: list[CoreObserver], filtering: Filtering | None, process: int) -> None:
    if os.getpid() != process:
        return  # a forked child has nothing of its own to detach
    try:
        held.pop().close()
    finally:
        if filtering is not None:
            filtering.close()
