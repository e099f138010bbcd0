# SPDX-License-Identifier: MIT
"""Observers: programs that see every packet of a pair and alter none (for policies see drivers/net/netkit.c)."""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Mapping

from netkit_bpf._core import VERDICT_SIZE, Namespace
from netkit_bpf._core import Observer as CoreObserver
from netkit_bpf._core import Program as CoreProgram
from netkit_bpf.bpf.attached import AttachedProgram
from netkit_bpf.bpf.hook import Anchor, placement
from netkit_bpf.bpf.program import Program
from netkit_bpf.bpf.variable import Variable
from netkit_bpf.devices.pair import NetkitPair
from netkit_bpf.enums import Rank, Side
from netkit_bpf.internal.arguments import expect, expect_word
from netkit_bpf.internal.resource import Closing
from netkit_bpf.observer.filter import Filter, FilteredCounts, SideFilters


class Observer(Closing):
    """Programs on the hooks of a pair that see every packet and alter none, behind a firewall and before the rest.

    A policy applies only while no program is attached, so an observer on a blackhole would let packets pass. Therefore
    its programs return the value for their side from a variable, `volatile __s32 verdict[2] SEC(".data") = { -1, -1 }`:
    NEXT; or DROP if the policy is blackhole, no other program follows and no `Firewall` is in front (packets behind one
    were passed by its rules). The observer sets the variable on construction and at each `check`. A reader that gets
    the observer calls that: when the kernel notifies of a change, and five times a second on a blackhole, as nothing
    tells of programs that come and go.

    The programs are attached from its construction until `close`; as a context manager it is closed on exit. Any thread
    may use it. The pair may be renamed; after its primary is moved to another namespace, the observer no longer follows
    changes of policy. It holds the primary's namespace until `NetNS.delete` is called on the object that the pair was
    made with. The BPF object of the programs may be closed earlier, unless they call each other through a program
    array: the kernel empties that when its last holder closes it.

    Args:
        pair: the pair to observe.
        programs: the program for each side to observe.
        verdict: the variable described above, in the same BPF object: first the primary's verdict, then the peer's.
        name: the name of the observer in errors.
        filter: a pcap-filter(7) expression, or a `Filter` made from one: the programs see only packets that match it.
        rank: where the programs go, as in `Hook.attach`; a packet function that redirects is a "balancer".
        before: attach in front of this one, on each hook, as in `Hook.attach`; overrides the rank.
        after: attach behind this one, likewise.
        redirected: attach the primary's program where the peer receives, on the tcx ingress hook of its device, instead
            of on the primary's hook. There it sees what `bpf_redirect_peer()` delivers past the primary's hook too, and
            each packet once: what the peer received. It sees none that are dropped or redirected before, and `before`
            and `after` must be on that hook too.
        standby: a second copy of each side's program, with which the observer keeps the place of its rank. It looks at
            each `check` whether somebody else's program came in front. If so, the copy that is not on the hook is
            attached before that one, and then that which was there is detached. So that each packet is recorded once,
            the two copies ask the variable `recording` (nk_is_recorder() in bpf/monitor.bpf.c shows how). Not together
            with `before` or `after`; on the hook of a peer's device (`redirected`) it keeps no place.
        recording: `volatile __s32 recording[2] SEC(".data")`, in the same BPF object as `verdict`.

    Raises:
        ValueError: a program or a variable's object is not loaded, a variable is not of that kind, libpcap refuses the
            filter, or the arguments contradict each other.
        PermissionError: with `standby`, CAP_SYS_ADMIN is missing, which it takes to read the names of programs.
        FileNotFoundError: a filter needs libpcap, which is not installed.
        LookupError: with `redirected`, the peer's namespace cannot be found.
        OSError: `Hook.attach` failed; nothing is attached then.

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
        rank: Rank | str = Rank.OBSERVER,
        before: Anchor | None = None,
        after: Anchor | None = None,
        redirected: bool = False,
        standby: Mapping[Side | str, Program] | None = None,
        recording: Variable | None = None,
    ) -> None:
        where = placement(rank, before, after)
        expect(pair, NetkitPair, "pair", "NetkitPair.open() takes a name")
        by_side = _by_side(programs, "programs")
        cells, offset = _cells(verdict, "verdict")
        self._name = expect(name, str, "name")
        self._filter = filter if isinstance(filter, Filter) or filter is None else Filter(filter)
        copies: list[CoreProgram | None] | None = None
        recording_offset: int | None = None
        if standby is not None:
            if before is not None or after is not None:
                raise ValueError("an observer that keeps its place takes neither before nor after")
            seconds = _by_side(standby, "standby")
            if seconds.keys() != by_side.keys():
                raise ValueError("standby must have a program for each side that programs have, and for no other")
            recording_cells, recording_offset = _cells(recording, "recording")
            if recording_cells != cells:
                raise ValueError("recording and verdict must be variables of one section of one BPF object")
            copies = [seconds.get(Side.PRIMARY), seconds.get(Side.PEER)]
        elif recording is not None:
            raise ValueError("recording goes with standby")
        primary, peer = by_side.get(Side.PRIMARY), by_side.get(Side.PEER)
        filters = None if self._filter is None else SideFilters(self._filter, cells, offset, recording_offset)
        self._side_filters = filters
        if filters is not None:
            primary = primary and filters.before(primary, 0)
            peer = peer and filters.before(peer, 1)
            if copies is not None:
                copies = [each and filters.before_second(each, side) for side, each in enumerate(copies)]
        device = pair.primary
        space = device.netns._open()
        self._pair = weakref.ref(pair)  # weak: a pair is deleted with its last reference
        self._device = device.name
        self._netns_cookie = device.netns.cookie
        self._sides = tuple(side for side in Side if side in by_side)
        self._start_ns = time.time_ns()
        receiver = _receiver(pair) if expect(redirected, bool, "redirected") else None
        core_observer = CoreObserver(
            name,
            space,
            self._device,
            device.ifindex,
            primary,
            peer,
            cells,
            offset,
            where,
            receiver,
            self._filter is None,
            None if copies is None or recording_offset is None else (copies[0], copies[1], recording_offset),
        )
        self._held = [core_observer]  # until it is closed
        self._closer = weakref.finalize(self, _close, self._held, self._side_filters, os.getpid())

    @property
    def device(self) -> str:
        """The name that the pair's primary had when the programs were attached."""
        return self._device

    @property
    def netns_cookie(self) -> int:
        """The `NetNS.cookie` of the namespace that the pair's primary was in when the programs were attached."""
        return self._netns_cookie

    @property
    def sides(self) -> tuple[Side, ...]:
        """The sides that are observed."""
        return self._sides

    @property
    def start_ns(self) -> int:
        """When the programs were attached: Unix time in nanoseconds."""
        return self._start_ns

    @property
    def filter(self) -> Filter | None:
        """The filter in front of the programs, if there is one."""
        return self._filter

    @property
    def program_ids(self) -> tuple[int, ...]:
        """The ids of its programs on the hooks, or of the filters in front of them; none once they are detached."""
        held = self._held[:]
        return tuple(held[0].program_ids()) if held else ()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return not self._closer.alive

    def check(self) -> None:
        """Read the policies and the attached programs again, and set the verdicts.

        Raises:
            ValueError: the observer is closed.
            OSError: ENODEV, the pair was deleted, or a program was detached.
        """
        self._open().check()

    @property
    def filtered(self) -> FilteredCounts:
        """How many packets did not match the filter, on each side. After `close`, the final counts."""
        return FilteredCounts(0, 0) if self._side_filters is None else FilteredCounts(*self._side_filters.filtered)

    @property
    def predecessors(self) -> dict[Side, tuple[AttachedProgram, ...]]:
        """The programs that run before the observer's on each hook, and may keep packets from it.

        Not counted are firewalls and other observers of this package, which leave packets to the next program. There
        are none when it attaches, unless `before` or `after` chose the place: then this is empty, as it is on the tcx
        ingress hook of a peer (`redirected`), and after `close`.
        """
        held = self._held[:]
        found: dict[Side, tuple[AttachedProgram, ...]] = {}
        for number, (program_id, link_id, name) in held[0].predecessors() if held else []:
            side = Side.from_number(number)
            found[side] = (*found.get(side, ()), AttachedProgram(program_id, name, link_id or None))
        return found

    def close(self) -> None:
        """Detach the programs: after this returns they see no more packets. Idempotent."""
        self._closer()

    def _detach(self) -> None:
        """Detach the programs, and leave the rest to close(): faster, before many closes."""
        held = self._held[:]
        if held:
            held[0].detach()

    def _of(self) -> str:
        return self._device

    def __repr__(self) -> str:
        sides = ", ".join(self._sides)
        matching = f" filter={self._filter.expression!r}" if self._filter else ""
        return f"<Observer {self._name} of {self._device} ({sides}){matching} {'closed' if self.closed else 'open'}>"

    def _open(self) -> CoreObserver:
        held = self._held[:]  # another thread may be closing it
        if self.closed or not held:
            raise ValueError(f"the {self._name} of {self._device} is closed")
        return held[0]

    def _peer_name(self) -> str | None:
        """The current name of the pair's peer, if it is known."""
        pair = self._pair()
        try:
            peer = None if pair is None else pair._find_peer()
        except (OSError, ValueError):
            return None  # its namespace is gone
        return None if peer is None else peer._known_name


def _by_side(programs: Mapping[Side | str, Program], argument: str) -> dict[Side, CoreProgram]:
    expect(programs, Mapping, argument)  # type: ignore[type-abstract]
    if not programs:
        raise ValueError(f"{argument} must have a program for one side or both")
    return {
        expect_word(side, Side, argument): expect(program, Program, argument)._open()
        for side, program in programs.items()
    }


def _cells(variable: Variable | None, argument: str) -> tuple[int, int]:
    """The map of a variable that has a number for each side, and its place in there."""
    variable = expect(variable, Variable, argument)
    core = variable._open()
    section, offset, size = core.variable(variable.name)
    if not variable._loaded:
        raise ValueError(f"variable '{variable.name}' is of an object that is not loaded: call its load() first")
    if size != 2 * VERDICT_SIZE:
        raise ValueError(f"variable '{variable.name}' has {size} bytes: a number for each side is __s32[2]")
    return core.map(section), offset


def _receiver(pair: NetkitPair) -> tuple[Namespace, str, int]:
    """Where the peer receives: its namespace, which the pair holds no longer than before, its name and its number."""
    peer = pair._find_peer() or pair.peer  # which says why it is not found
    return peer.netns._open(), peer.name, peer.ifindex


def _close(held: list[CoreObserver], side_filters: SideFilters | None, process: int) -> None:
    if os.getpid() != process:
        return  # a forked child has nothing of its own to detach
    try:
        held.pop().close()
    finally:
        if side_filters is not None:
            side_filters.close()
