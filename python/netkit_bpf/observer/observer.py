# SPDX-License-Identifier: MIT
"""Observers: programs that see every packet of a pair and alter nothing (drivers/net/netkit.c for what policies do)."""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Mapping

from netkit_bpf._core import VERDICT_SIZE
from netkit_bpf._core import Observer as CoreObserver
from netkit_bpf._core import Program as CoreProgram
from netkit_bpf.bpf.program import Program
from netkit_bpf.bpf.variable import Variable
from netkit_bpf.devices.pair import NetkitPair
from netkit_bpf.enums import Side, parse
from netkit_bpf.internal.arguments import expect
from netkit_bpf.internal.resource import Closing
from netkit_bpf.observer.filter import Filter, FilteredCounts, SideFilters


class Observer(Closing):
    """Programs on the hooks of a pair that see every packet and alter nothing, each before all others of its hook.

    A policy holds only while no program is attached, so an observer on a blackhole would open it. Therefore its
    programs return what stands for their side in a variable, `volatile __s32 verdict[2] SEC(".data") = { -1, -1 }`:
    NEXT, or DROP where the policy is blackhole and no other program follows. The observer sets it when it is made and
    at each `check`; a reader that it is given to checks five times a second.

    The programs are attached from its construction until `close`; as a context manager it is closed on exit. Any thread
    may use it. The pair may be renamed; once its primary is moved to another namespace, changes of policy are not
    followed any more. It holds the primary's namespace, as long as nobody calls `NetNS.delete` on the object that the
    pair was made with. The object of the programs may be closed before, unless they call each other by way of a program
    array: its last holder empties it.

    Args:
        pair: whose packets are to be seen.
        programs: the program of each side that is to be seen.
        verdict: that variable, of the object of the programs: first the primary's verdict, then the peer's.
        name: what the observer is called in errors.
        filter: a pcap-filter(7) expression, or a `Filter` made of one: the programs see only what matches it.

    Raises:
        ValueError: a program or the variable's object is not loaded, or the variable is none of that kind; of a
            filter, in libpcap's words.
        FileNotFoundError: a filter needs libpcap, and there is none.
        OSError: what `Hook.attach` raises. Then nothing is attached.

    >>> obj = BPFObject.compile('''  # doctest: +SKIP
    ... #include <netkit.h>
    ... volatile __s32 verdict[2] SEC(".data") = { NETKIT_NEXT, NETKIT_NEXT };
    ... __u64 packets;
    ... SEC("netkit/primary") int count(struct __sk_buff *skb)
    ... {
    ...     __sync_fetch_and_add(&packets, 1);
    ...     return verdict[0];
    ... }
    ... ''')
    >>> obj.load()  # doctest: +SKIP
    >>> with Observer(pair, {"primary": obj.programs["count"]}, verdict=obj.variables["verdict"]):  # doctest: +SKIP
    ...     print(obj.variables["packets"].value)
    """

    def __init__(
        self,
        pair: NetkitPair,
        programs: Mapping[Side | str, Program],
        *,
        verdict: Variable,
        name: str = "observer",
        filter: str | Filter | None = None,  # noqa: A002 - tcpdump's and libpcap's word
    ) -> None:
        expect(pair, NetkitPair, "pair", "NetkitPair.open() takes a name")
        by_side = _by_side(programs)
        expect(verdict, Variable, "verdict")
        core = verdict._open()
        section, offset, size = core.variable(verdict.name)
        if not verdict._loaded:
            raise ValueError(f"variable '{verdict.name}' is of an object that is not loaded: call its load() first")
        if size != 2 * VERDICT_SIZE:
            raise ValueError(f"variable '{verdict.name}' has {size} bytes: a verdict for each side is __s32[2]")
        self._name = expect(name, str, "name")
        self._filter = filter if isinstance(filter, Filter) or filter is None else Filter(filter)
        cells = core.map(section)
        primary, peer = by_side.get(Side.PRIMARY), by_side.get(Side.PEER)
        self._side_filters = None if self._filter is None else SideFilters(self._filter)
        if self._side_filters is not None:
            primary = primary and self._side_filters.before(primary, 0, cells, offset)
            peer = peer and self._side_filters.before(peer, 1, cells, offset + VERDICT_SIZE)
        device = pair.primary
        space = device.netns._open()
        self._pair = weakref.ref(pair)  # a pair that is dropped is deleted
        self._device = device.name
        self._sides = tuple(side for side in Side if side in by_side)
        self._start_ns = time.time_ns()
        core_observer = CoreObserver(name, space, self._device, device.ifindex, primary, peer, cells, offset)
        self._held = [core_observer]  # until it is closed
        self._closer = weakref.finalize(self, _close, self._held, self._side_filters, os.getpid())

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
            ValueError: the observer is closed.
            OSError: ENODEV, the pair was deleted, or somebody detached a program.
        """
        self._open().check()

    @property
    def filtered(self) -> FilteredCounts:
        """How many packets did not match the filter, a side each. After `close`, the final counts."""
        return FilteredCounts(0, 0) if self._side_filters is None else FilteredCounts(*self._side_filters.filtered)

    def close(self) -> None:
        """Detach the programs: once this returns they see no packet any more. Idempotent."""
        self._closer()

    def _of(self) -> str:
        return self._device

    def __repr__(self) -> str:
        sides = ", ".join(self._sides)
        matching = f" filter={self._filter.expression!r}" if self._filter else ""
        return f"<Observer {self._name} of {self._device} ({sides}){matching} {'closed' if self.closed else 'open'}>"

    def _open(self) -> CoreObserver:
        held = self._held[:]  # another thread may be closing
        if self.closed or not held:
            raise ValueError(f"the {self._name} of {self._device} is closed")
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


def _close(held: list[CoreObserver], side_filters: SideFilters | None, process: int) -> None:
    if os.getpid() != process:
        return  # a forked child has nothing of its own to detach
    try:
        held.pop().close()
    finally:
        if side_filters is not None:
            side_filters.close()
