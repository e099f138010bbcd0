# SPDX-License-Identifier: MIT
"""Load balancing: a virtual address whose connections go to one of many pairs (bpf/balancer.bpf.c)."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable, Mapping, Set
from typing import Literal, NamedTuple

from netkit_bpf.balancer.maglev import MaglevTable
from netkit_bpf.bpf.object import BPFObject
from netkit_bpf.devices.pair import NetkitPair
from netkit_bpf.enums import Verdict
from netkit_bpf.functions.backend import (
    PORTS,
    Address,
    Backend,
    BackendStats,
    Service,
    is_same,
    macs,
    macs_now,
    parse_vip,
)
from netkit_bpf.functions.balancer_programs import attach, is_left_to_nobody, load_balancer
from netkit_bpf.functions.members import MOST, Members
from netkit_bpf.internal.arguments import expect, expect_in, expect_one
from netkit_bpf.internal.process_lock import ProcessLock
from netkit_bpf.internal.resource import Closing

_WEIGHTS = range(1, 65536)
_CONNECTIONS = range(16, (1 << 24) + 1)


class BalancerStats(NamedTuple):
    """What did not go its usual way.

    Attributes:
        no_backend: packets that were dropped because there was no backend for them, or because their connection was
            over and its backend gone.
        fragments: first fragments that were dropped. The later ones have no port, and are nobody's.
        hairpins: packets that were dropped because they came from the backend's own address.
        evicted: established connections that had to make room. The next packet of their client brings them back, and
            until then replies find their way.
        moved: connections whose backend was gone, and which went to another one.
        icmp_errors: ICMP errors about connections that were translated and sent to the other side.
    """

    no_backend: int
    fragments: int
    hairpins: int
    evicted: int
    moved: int
    icmp_errors: int


class LoadBalancer(Closing):
    """A virtual address and port, whose connections go to backends, and come back as if there were one server.

    It is attached from its construction until `close`, to the hook of the clients' peer and to those of the backends'
    peers, behind the other programs: no program behind it sees what it sends on. A new connection goes to the backend
    that a `MaglevTable` names for the client's address and port. It stays there until it is over, whatever is added,
    drained or removed meanwhile. Packets that are not for the service, and all that backends send otherwise, are left
    to the host, and on a side whose policy is blackhole dropped.

    With mode="nat" packets to a backend carry its address and port, and replies the virtual ones again. With mode="dsr"
    (direct server return) only MACs are written: the virtual address has to be one of the backend's own, say on its lo.
    The backend needs a route to the client by its pair, the client one to the virtual address; the host needs nothing.

    The table of connections takes `connections` of them. When a connection has no place in it, one that is over makes
    room, else one without a reply, else the one that was silent longest, which is counted as evicted; its client's next
    packet brings it back, to the backend that the Maglev table names then. Replies until then come from the virtual
    address all the same: for two hours (a minute with UDP), what a backend sends from its service to clients that share
    a place with an evicted connection is taken for such a reply, even to one that came to the backend directly.

    A backend whose pair is deleted, or whose primary is moved into another namespace, gets no new connections from that
    moment on. A thread lets go of it: then its connections go to other backends, which reset TCP's. It follows the
    policies, too, and sleeps until a device of the namespace changes. Of two balancers of one pair for the same address
    and port the newer one has all packets.

    Refused: a backend that is the clients' own pair (its packets would come from the address that they go to). Left to
    the host: pings of the virtual address, VLAN tags. Dropped: fragments with the service's port, and packets for which
    there is no backend. Both are counted in `stats`.

    Any thread may use it. In a forked child it is a copy, whose `close` detaches nothing.

    Args:
        pair: behind whose peer the clients are.
        vip: the virtual address, of IPv4 or IPv6. Clients need a route to it by the pair; nobody need have it.
        port: the service's.
        protocol: "tcp" or "udp".
        mode: "nat" or "dsr".
        backends: pairs or `Backend`s, which weigh the same, or a dict of these with their weights. Their primaries are
            in the namespace of the clients' primary.
        connections: how many the table holds, 16 to 16,777,216; it is made as large as the next power of two. Each
            takes 32 bytes.

    Raises:
        ValueError: an argument is not possible: no such backend, an address of another family. Nothing is touched then.
        LookupError: the namespace of a peer cannot be found, where its address or, in L2 mode, its MAC has to be read.
        PermissionError: CAP_BPF or CAP_NET_ADMIN is missing.
        OSError: ENODEV, a pair is gone. Nothing is attached then.

    >>> with LoadBalancer(clients, "192.0.2.80", 80, backends={web1: 2, web2: 1}) as balancer:  # doctest: +SKIP
    ...     balancer.drain(web1)
    ...     print(balancer.backends)
    """

    def __init__(
        self,
        pair: NetkitPair,
        vip: Address | str,
        port: int,
        *,
        protocol: Literal["tcp", "udp"] = "tcp",
        mode: Literal["nat", "dsr"] = "nat",
        backends: Iterable[NetkitPair | Backend] | Mapping[NetkitPair | Backend, int] = (),
        connections: int = 65536,
    ) -> None:
        from netkit_bpf.functions.following.backend_follower import BackendFollower

        self._object: BPFObject | None = None  # until it is attached, for __del__
        self._process = os.getpid()
        expect(pair, NetkitPair, "pair", "NetkitPair.open() takes a name")
        expect_one(protocol, ("tcp", "udp"), "protocol")
        expect_one(mode, ("nat", "dsr"), "mode")
        expect_in(connections, _CONNECTIONS, "connections")
        self._protocol = protocol
        self._service = Service(pair, parse_vip(vip), expect_in(port, PORTS, "port"), mode == "dsr")
        self._lock = ProcessLock()
        self._final: tuple[tuple[BackendStats, ...], BalancerStats] | None = None
        wanted: list[tuple[Backend, int]] = []
        for each, weight in backends.items() if isinstance(backends, Mapping) else ((each, 1) for each in backends):
            backend = self._service.resolve(each)
            if any(is_same(backend.pair, other.pair) for other, _ in wanted):
                raise ValueError(f"backends has {backend.pair.primary.name} twice")
            wanted.append((backend, expect_in(weight, _WEIGHTS, "weight")))
        if len(wanted) > MOST:
            raise ValueError(f"backends has {len(wanted)}, more than {MOST}")

        obj = load_balancer(
            self.vip, self.port, protocol, mode, connections, clients=(pair.primary.ifindex, macs(pair))
        )
        with contextlib.ExitStack() as undo:  # unless all of it succeeds
            undo.callback(obj.close)
            self._members = Members(obj, self._service)
            undo.callback(self._members.close, detach=True)
            self._members.admit(wanted)
            self._link = attach(pair, obj.programs["balancer_client"])
            undo.callback(self._link.detach)
            with self._lock:  # what the follower hears waits until all is whole
                self._follower = BackendFollower(pair.primary.netns, self._look_again, self._lock)
                undo.callback(self._follower.close)
                self._members.look_again(None)  # what happened before it heard anything is looked for
                self._follow_clients(obj)
                self._object = obj
                undo.pop_all()

    @property
    def vip(self) -> Address:
        """The virtual address."""
        return self._service.vip

    @property
    def port(self) -> int:
        """The service's port."""
        return self._service.port

    @property
    def protocol(self) -> str:
        """Either "tcp" or "udp"."""
        return self._protocol

    @property
    def mode(self) -> str:
        """Either "nat" or "dsr"."""
        return "dsr" if self._service.is_dsr else "nat"

    @property
    def table(self) -> MaglevTable:
        """Which backend gets which new connections; its names are the backends' addresses, ports and devices."""
        return self._members.table

    def add(self, backend: NetkitPair | Backend, weight: int = 1) -> None:
        """Let a backend take new connections, also one that drains. On any failure all stays as it was.

        Args:
            backend: a pair, or one with address and port.
            weight: its part of the new connections, in proportion to the others': 1 to 65535.

        Raises:
            ValueError: the balancer is closed, the backend is there already, or cannot be one; there are 512.
            OSError: ENODEV, the pair is gone.
        """
        expect_in(weight, _WEIGHTS, "weight")
        resolved = self._service.resolve(backend)
        with self._lock:
            self._open()
            self._members.let_go()
            member = self._members.find(resolved.pair)
            if member is not None and (member.state == "active" or member.backend[1:] != resolved[1:]):
                state = "a backend already" if member.state == "active" else f"still {member.state} as another service"
                raise ValueError(f"{resolved.pair.primary.name} is {state}")
            if member is None:
                self._members.admit([(resolved, weight)])
            else:
                self._members.change(member, "active", weight)

    def drain(self, backend: NetkitPair | Backend) -> None:
        """Give a backend no new connections. Those that it has go on; `add` lets it take new ones again. Idempotent.

        Raises:
            ValueError: the balancer is closed.
            LookupError: the pair is no backend.
        """
        with self._lock:
            self._open()
            self._members.let_go()
            member = self._members.get(backend)
            self._members.change(member, "draining", member.weight)

    def remove(self, backend: NetkitPair | Backend, *, at_once: bool = False) -> None:
        """Give a backend no new connections, and let go of it as soon as those that it has are over.

        Without any, that is now; else at the first call of any method a second after they are over, when their last
        packets have come. Until then it is listed as "removed".

        Args:
            backend: a pair, or one with address and port.
            at_once: let go of it now. Its connections go to other backends, which reset TCP's.

        Raises:
            ValueError: the balancer is closed.
            LookupError: the pair is no backend.
        """
        expect(at_once, bool, "at_once")
        with self._lock:
            self._open()
            member = self._members.get(backend)
            self._members.change(member, "removed", member.weight)
            if at_once:
                self._members.dismiss([member])
            self._members.let_go()

    @property
    def backends(self) -> tuple[BackendStats, ...]:
        """The backends in the order in which they came, with their counters. After `close`, the final ones."""
        with self._lock:
            if self._final is not None:
                return self._final[0]
            self._open()
            self._members.let_go()
            return self._members.stats()

    @property
    def stats(self) -> BalancerStats:
        """What did not go its usual way until now. After `close`, the final counts."""
        with self._lock:
            return self._stats(self._open()) if self._final is None else self._final[1]

    def check(self) -> None:
        """Let go of backends whose pair is gone, and look again at the MACs and, for other packets, at the policies.

        That is done by itself after a pair was deleted or moved, or a policy changed. To be called after the MAC of a
        peer in L2 mode was changed, of which nobody tells, and after another program came or went on a blackhole.

        Raises:
            ValueError: the balancer is closed.
            OSError: ENODEV, the clients' pair is gone. All else was done.
        """
        with self._lock:
            obj = self._open()
            self._members.let_go()
            self._members.look_again(None)
            self._follow_clients(obj)

    def close(self) -> None:
        """Take the programs off all hooks. Idempotent. Connections that are open break."""
        is_ours = os.getpid() == self._process
        with contextlib.ExitStack() as last_first:  # whatever fails, the rest is closed
            self._follower.stop()
            last_first.callback(self._follower.close)  # without the lock, for which its thread would wait a while
            last_first.enter_context(self._lock)
            obj, self._object = self._object, None
            if obj is None:
                return
            last_first.callback(obj.close)
            last_first.callback(self._members.close, detach=is_ours)
            last_first.callback(self._link.close)
            if is_ours:
                last_first.callback(self._link.detach)
            self._final = ((), BalancerStats(*[0] * len(BalancerStats._fields)))
            self._final = (self._members.stats(), self._stats(obj))

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._object is None

    def _of(self) -> str:
        address = f"[{self.vip}]" if self.vip.version == 6 else f"{self.vip}"
        return f"{self._protocol} {address}:{self.port}"

    def _repr_html_(self) -> str | None:
        from netkit_bpf.internal.html import Part, first, show

        def build() -> list[object]:
            most = max([1, *(each.connections for each in self.backends)])
            rows = [
                (
                    *(each.name, f"{each.backend.address} {each.backend.port}", each.state, each.weight),
                    *(f"{each.share:.1%}", each.open, each.connections, each.packets, each.reply_packets),
                    Part(each.connections / most),
                )
                for each in self.backends
            ]
            header = ("backend", "address and port", "state", "weight", "share", "open", "connections", "packets")
            odd = [(name.replace("_", " "), count) for name, count in self.stats._asdict().items() if count]
            tables = [first(rows, (*header, "replies", "connections"))]
            return [*tables, *([first(odd, ("what went otherwise", "count"))] if odd else [])]

        return show(self, build)

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"{len(self._members)} backends"
        return f"<LoadBalancer {self._of()} ({self.mode}) {state}>"

    # --- Within.

    def _open(self) -> BPFObject:
        if self._object is None:
            raise ValueError("the load balancer is closed")
        return self._object

    def _follow_clients(self, obj: BPFObject) -> None:
        is_shut = is_left_to_nobody(self._service.clients, self._link)
        obj.variables["client_verdict"].value = Verdict.DROP.number if is_shut else Verdict.NEXT.number
        known = obj.variables["client_macs"]
        known.value = macs_now(self._service.clients, known.value)

    def _look_again(self, changed: Set[int] | None) -> None:
        """What the follower calls with the numbers of devices; None: any."""
        obj = self._object
        if obj is None:
            return
        try:
            self._members.look_again(changed)
        finally:
            if changed is None or self._service.clients.primary.ifindex in changed:
                try:
                    self._follow_clients(obj)
                except OSError as error:
                    if error.errno != errno.ENODEV:  # deleted meanwhile: nobody is left to follow
                        raise

    @staticmethod
    def _stats(obj: BPFObject) -> BalancerStats:
        return BalancerStats(*map(sum, obj.maps["events"].values()))
