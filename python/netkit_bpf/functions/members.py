# SPDX-License-Identifier: MIT
"""The backends that a load balancer has, each in its place of the programs' maps (bpf/balancer.bpf.c)."""

from __future__ import annotations

import contextlib
import errno
from array import array
from collections.abc import Iterator, Sequence, Set

from netkit_bpf.balancer.maglev import MaglevTable
from netkit_bpf.bpf.hook import Link
from netkit_bpf.bpf.object import BPFObject
from netkit_bpf.devices.pair import NetkitPair
from netkit_bpf.functions.backend import Backend, BackendStats, Service, State, is_same, macs, macs_now
from netkit_bpf.functions.balancer_programs import attach, is_left_to_nobody, publish
from netkit_bpf.internal.arguments import expect

MOST = 512  # NK_LB_BACKENDS
_FRAME = bytes(64)  # for the survey, which looks at no packet


class Member:
    """A backend in its place."""

    def __init__(self, backend: Backend, weight: int, place: int, value: tuple[object, ...]) -> None:
        self.backend = backend
        self.weight = weight
        self.place = place
        self.value = value
        self.macs = macs(backend.pair)
        self.state: State = "active"
        self.link: Link | None = None
        self.name = backend.pair.primary.name
        self.netns = backend.pair.primary.netns
        self.ifindex = backend.pair.primary.ifindex
        # By which the Maglev table knows it: another process shall call it the same.
        self.key = f"{backend.address} {backend.port} {self.name}"

    @property
    def is_gone(self) -> bool:
        """Whether its pair was deleted or its object moved elsewhere, or somebody detached the program.

        A primary that others moved is found only by asking for it.
        """
        primary = self.backend.pair.primary
        is_moved = (primary.netns, primary.ifindex) != (self.netns, self.ifindex)
        return is_moved or self.link is None or not self.link.is_attached


class Members:
    """All backends of one balancer, in the order in which they came. The caller holds the balancer's lock.

    Args:
        obj: the loaded programs. Who made them closes them.
        service: what the backends are for.
    """

    def __init__(self, obj: BPFObject, service: Service) -> None:
        self.table = MaglevTable([])  # which of them gets which new connections
        self._obj = obj
        self._service = service
        self._all: list[Member] = []
        self._generations = [0] * MOST

    def __iter__(self) -> Iterator[Member]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def find(self, pair: NetkitPair) -> Member | None:
        """The backend that is this pair, if any."""
        return next((each for each in self._all if is_same(each.backend.pair, pair)), None)

    def get(self, backend: NetkitPair | Backend) -> Member:
        """The same; LookupError if there is none."""
        pair = backend if isinstance(backend, NetkitPair) else expect(backend, Backend, "backend").pair
        found = self.find(expect(pair, NetkitPair, "backend.pair"))
        if found is None:
            there_are = ", ".join(member.name for member in self._all) or "none"
            raise LookupError(f"{pair!r} is no backend: there are {there_are}")
        return found

    def admit(self, backends: Sequence[tuple[Backend, int]]) -> None:
        """Attach to backends, and let them take new connections with their weights; on failure all stays as it was."""
        with contextlib.ExitStack() as undo:
            for backend, weight in backends:
                member = self._place(backend, weight)
                undo.callback(self._forget, member)
                self._all.append(member)
                undo.callback(self._all.remove, member)
            self._publish(self._all)
            undo.pop_all()

    def change(self, member: Member, state: State, weight: int) -> None:
        """Let a backend take new connections or not; on failure all stays as it was."""
        self._set_macs(member)
        before = member.state, member.weight
        member.state, member.weight = state, weight
        try:
            self._tell(member)
            self._publish(self._all)
        except BaseException:
            member.state, member.weight = before
            self._tell(member)
            raise

    def dismiss(self, members: Sequence[Member]) -> None:
        """Detach from backends and forget them. When that begins, no new connection goes there any more."""
        if any(member.state == "active" for member in members):
            self._publish([member for member in self._all if member not in members])
        for member in members:
            self._all.remove(member)
            self._forget(member)

    def let_go(self) -> None:
        """Dismiss removed backends whose connections are over, and any whose pair is gone."""
        is_removed = any(member.state == "removed" for member in self._all)
        surveyed = self._survey() if is_removed else []
        self.dismiss(
            [
                member
                for member in self._all
                if member.is_gone or (member.state == "removed" and not any(surveyed[member.place]))
            ]
        )

    def look_again(self, changed: Set[int] | None) -> None:
        """Follow policies and MACs of devices that changed, and dismiss backends that are not there; None: all."""
        members = [member for member in self._all if changed is None or member.ifindex in changed]
        gone = []
        failure = None
        for member in members:  # one whose turn fails stops no other
            try:
                self._set_verdict(member)
                self._set_macs(member)
            except OSError as error:
                if error.errno in (errno.ENODEV, errno.ENOLINK):  # deleted, or in another namespace
                    gone.append(member)
                else:
                    failure = failure or error
        self.dismiss([member for member in members if member in gone or member.is_gone])
        if failure is not None:
            raise failure

    def stats(self) -> tuple[BackendStats, ...]:
        """The backends with their counters."""
        open_ = self._survey()
        shares = self.table.shares
        found = []
        for member in self._all:
            counts = (sum(counted) for counted in zip(*self._obj.maps["counts"][member.place], strict=True))
            share = shares.get(member.key, 0) / len(self.table)
            state = member.weight, member.state, share, open_[member.place][0]
            found.append(BackendStats(member.backend, member.name, *state, *counts))
        return tuple(found)

    def close(self, *, detach: bool) -> None:
        """Let go of all links, as who closes the programs does; detach: take the programs off the hooks, too."""
        with contextlib.ExitStack() as last_first:  # whatever fails, the rest is let go of
            for link in [member.link for member in self._all if member.link is not None]:
                last_first.callback(link.close)
                if detach:
                    last_first.callback(link.detach)

    # --- Within.

    def _place(self, backend: Backend, weight: int) -> Member:
        """Make it known and attach to it: it gets no connections yet. On failure nothing is left."""
        taken = {member.place for member in self._all}
        place = next((place for place in range(MOST) if place not in taken), None)
        if place is None:
            raise ValueError(f"there are {MOST} backends, and no more can be: remove one first")
        self._generations[place] = self._generations[place] % 0xFFFF + 1
        member = Member(backend, weight, place, self._service.value_of(backend, self._generations[place]))
        counts = self._obj.maps["counts"]
        counts[place] = [(0, 0, 0, 0, 0)] * len(counts[place])
        self._tell(member)
        self._obj.maps["places"][member.ifindex] = place
        try:
            member.link = attach(backend.pair, self._obj.programs["balancer_backend"])
            self._set_verdict(member)
        except BaseException:
            self._forget(member)
            raise
        return member

    def _tell(self, member: Member) -> None:
        """Let the programs know it, and whether it takes new connections."""
        self._obj.maps["backends"][member.place] = (*member.value, member.macs, member.state == "active")

    def _forget(self, member: Member) -> None:
        """Detach from it: no packet goes there any more."""
        nobody = (bytes(16), 0, 0, 0, 0, 0, (bytes(6), bytes(6)), 0)
        with contextlib.ExitStack() as last_first:
            link, member.link = member.link, None
            if link is not None:
                last_first.callback(link.close)
                last_first.callback(link.detach)
            self._obj.maps["backends"][member.place] = nobody
            self._obj.maps["places"].pop(member.ifindex, None)

    def _set_verdict(self, member: Member) -> None:
        link = member.link
        if link is None or member.is_gone:
            return
        is_shut = is_left_to_nobody(member.backend.pair, link)
        program = self._obj.programs["balancer_backend_shut" if is_shut else "balancer_backend"]
        if link.program.id != program.id:
            link.update(program)

    def _set_macs(self, member: Member) -> None:
        found = macs_now(member.backend.pair, member.macs)
        if found != member.macs:
            member.macs = found
            self._tell(member)

    def _publish(self, members: Sequence[Member]) -> None:
        """Let the Maglev table be that of the active ones among these."""
        active = {member.key: member for member in members if member.state == "active"}
        table = MaglevTable({name: member.weight for name, member in active.items()})
        numbers = array("H", table.tobytes())
        if active:  # else it has nobody everywhere
            places = [member.place for member in active.values()]
            numbers = array("H", map(places.__getitem__, numbers))
        publish(self._obj, numbers.tobytes())
        self.table = table

    def _survey(self) -> list[tuple[int, int]]:
        """Count by place the connections that are not over, and those that are since less than a second."""
        self._obj.programs["balancer_survey"].test_run(_FRAME)
        return list(self._obj.maps["open"].values())
