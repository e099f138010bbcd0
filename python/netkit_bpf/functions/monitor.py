# SPDX-License-Identifier: MIT
"""The packet monitor: the observer that ships with this package, and the reader of its events."""

from __future__ import annotations

import contextlib
import errno
import mmap
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from netkit_bpf.bpf.hook import Anchor
from netkit_bpf.bpf.object import BPFObject
from netkit_bpf.bpf.program import Program
from netkit_bpf.devices.netns import NetNS
from netkit_bpf.devices.pair import NetkitPair
from netkit_bpf.enums import Side
from netkit_bpf.events.packet_reader import PacketReader
from netkit_bpf.functions.cpu_rings import make_cpu_rings
from netkit_bpf.functions.monitor_programs import PairPrograms
from netkit_bpf.functions.pairs import expect_pairs
from netkit_bpf.internal.arguments import (
    Rings,
    StreamOptions,
    Thread,
    expect,
    expect_in,
    expect_power_of_two,
    expect_sides,
)
from netkit_bpf.internal.process_lock import ProcessLock
from netkit_bpf.observer.filter import Filter
from netkit_bpf.observer.observer import Observer

if TYPE_CHECKING:
    from netkit_bpf.functions.following.pair_follower import PairFollower

_MIB = 1 << 20
_LARGEST_RING = 1 << 30
_LONGEST_SNAP = 262144  # tcpdump's own


class Monitor(PacketReader):
    """Watches every packet on the hooks of one or more netkit pairs, and alters none.

    It is attached from its construction until `close`, behind a `Firewall` and in front of the other programs of the
    hooks, in whatever order they were attached. A side whose policy is blackhole keeps dropping. The monitor follows
    changes of policies at once; when a program is attached to a blackhole or detached, it adapts within 0.2 s.

    Pairs can be added and removed while it runs. A pair that is deleted ends alone: its events before that are
    delivered, `stats.pairs` keeps its counts, and `changes` tells. Reading ends with the last pair.

    Another program that somebody puts in front of it later can hide packets from it. If nothing is seen behind one
    though the devices count packets, reading gives a RuntimeWarning that names it, once for each, after some seconds:
    it looks at one pair a second, while packets are read or waited for. `hidden_by` in `stats.pairs` has it too. With
    `keep_first` the monitor comes back to the front instead. See also `Observer.predecessors`.

    Any thread may read, close it and ask for its stats. Each event goes to one reader, so two readers share the
    stream. Signal handlers run while a read waits. Iterating waits for ever; `events` takes limits. A forked child can
    neither use the monitor nor harm it.

    Each pair takes two file descriptors, and eight with a filter. For hundreds of pairs raise the limit of the process
    (`ulimit -n`). Attaching to a hook waits for the kernel, some 10 ms each.

    A single event arrives some tens of microseconds after its packet. When events keep coming, the reader polls at
    least every 0.4 ms instead of having each packet wake it, which would cost the packet microseconds.

    Args:
        pairs: the pairs to watch, one or more; `Monitor.all` watches those of a namespace.
        sides: which hooks: "primary", "peer" or both.
        filter: a pcap-filter(7) expression, "icmp6 or tcp port 443", or a `Filter` made from one. The kernel executes
            it before a record is made: a packet that does not match costs no more than the filter, and passes all the
            same. It matches packets as on the wire: "vlan and icmp6" behind a VLAN tag. Host names are looked up once,
            when the filter is made.
        snaplen: how many bytes of each packet an event carries as its `data`, from the Ethernet header on, as on the
            wire; 0 to 262144. A packet then takes that much more of the ring, or its own length if it is shorter. A
            buffer of that size is kept for each CPU. 0 carries no data and costs nothing.
        ring_size: bytes of the ring buffer that all hooks share: a power of two, 4096 to 1 GiB. A packet takes 96
            bytes, and its data with a snaplen, until the reader thread has copied it.
        rings: "shared" is one ring for all CPUs, which write to it one at a time. "percpu" is a ring of `ring_size`
            bytes for each online CPU, for machines on which many CPUs send at once: packets then never wait for another
            CPU. The events of each CPU come in order, those of several CPUs one block after the other. "ordered" also
            has a ring for each CPU, but delivers all events in the order of their times. That costs some nanoseconds
            per event, and an event waits for older ones, microseconds at most. CPUs that come online later share a
            ring, in which neighbouring events can be in the wrong order.
        queue_size: bytes of events that may wait for Python behind the ring.
        thread: the thread that empties the ring while Python does something else: "shared" is one for all monitors,
            "own" one for this monitor alone. With None events stay in the ring until they are read. That is fastest for
            a program that does nothing but read: an event arrives some 5 microseconds sooner, but packets are lost as
            soon as reading pauses for longer than the ring can bridge.
        before: attach in front of this one, on each hook, as in `Hook.attach`, instead of where monitors belong.
        after: attach behind this one, likewise.
        redirected: also see what `bpf_redirect_peer()` delivers to the peer, as Cilium's host routing does: it skips
            the primary's hook. The primary's packets are then seen where the peer receives them, each once, on the tcx
            ingress hook of its device; none are seen that were dropped or redirected before.
        keep_first: whether to come back to the front when a program is attached before the monitor's, so that this one
            hides no packet for long. The hooks are then looked at five times a second; coming to the front waits for
            the kernel, some 20 ms. Each packet is still recorded once. Not together with `before` or `after`; with
            `redirected` for the peer's packets only. Each pair takes six descriptors, and with a filter eighteen.
        endless: whether reading goes on once the last pair is gone; then it may also begin without any.

    Raises:
        ValueError: an argument is not valid on any kernel, or libpcap refuses the filter.
        FileNotFoundError: a filter needs libpcap, which is not installed.
        PermissionError: CAP_BPF or CAP_NET_ADMIN is missing; with `keep_first`, CAP_SYS_ADMIN.
        LookupError: with `redirected`, a peer's namespace cannot be found.
        OSError: ENODEV, a pair is gone.

    >>> with Monitor(pair) as monitor:  # doctest: +SKIP
    ...     for event in monitor.events(timeout=1.0):
    ...         print(event)
    """

    def __init__(
        self,
        *pairs: NetkitPair,
        sides: Sequence[Side | str] = (Side.PRIMARY, Side.PEER),
        filter: str | Filter | None = None,  # noqa: A002 - tcpdump's and libpcap's word
        snaplen: int = 0,
        ring_size: int = 4 * _MIB,
        rings: Rings = "shared",
        queue_size: int = StreamOptions().queue_size,
        thread: Thread | None = "shared",
        before: Anchor | None = None,
        after: Anchor | None = None,
        redirected: bool = False,
        keep_first: bool = False,
        endless: bool = False,
    ) -> None:
        if not pairs and not expect(endless, bool, "endless"):
            raise TypeError("a monitor takes a pair, or several; Monitor.all() takes those of a namespace")
        watched = expect_sides(sides)
        expect_power_of_two(ring_size, mmap.PAGESIZE, _LARGEST_RING, "ring_size")
        if expect_in(snaplen, range(_LONGEST_SNAP + 1), "snaplen") + self.RECORD_SIZE >= ring_size:
            raise ValueError(f"ring_size must have room for a packet of {snaplen} bytes, not be {ring_size}")
        StreamOptions(queue_size, rings, thread).check()
        expect(redirected, bool, "redirected")
        if expect(keep_first, bool, "keep_first") and (before, after) != (None, None):
            raise ValueError("a monitor that keeps the first place takes neither before nor after")
        chosen_pairs = expect_pairs(*pairs)

        self._sides = watched
        self._filter = filter if isinstance(filter, Filter) or filter is None else Filter(filter)
        self._before, self._after, self._redirected = before, after, redirected
        self._keep_first = keep_first
        self._changing = ProcessLock()  # a signal handler may close the monitor while this thread adds a pair
        self._follower: PairFollower | None = None
        with contextlib.ExitStack() as undo:  # runs unless everything succeeds
            self._programs = PairPrograms(ring_size, snaplen, rings, len(chosen_pairs), keep_first)
            undo.callback(self._programs.close)
            first = self._programs.first
            maps = [first.maps["events"]] if rings == "shared" else make_cpu_rings(first, ring_size)
            super().__init__(
                maps,
                rings=rings,
                pairs=[each.primary.name for each in chosen_pairs],
                by_pair=True,
                endless=endless,
                snaplen=snaplen,
                name="monitor",
                queue_size=queue_size,
                thread=thread,
            )
            undo.callback(self.close)
            self._programs.announce(self.add_counts)
            for each in chosen_pairs:
                self._attach(each)
            undo.pop_all()
        for unused in maps[1:]:
            unused.close()

    @classmethod
    def all(
        cls, netns: NetNS | None = None, match: str | Callable[[NetkitPair], bool] | None = None, **options: Any
    ) -> Monitor:
        """Watch all pairs of a namespace, those that there are and those that come later, until `close`.

        A pair is watched some milliseconds after it was made, and from then on no packet of it is unseen: `stats.pairs`
        tells the time. Those that are deleted end for themselves; reading goes on without any. Whatever keeps one that
        comes later from being watched is logged as a warning to "netkit_bpf". The namespace stays alive until `close`.

        Args:
            netns: where the primaries are; the calling thread's namespace if not given.
            match: only those whose primary's name matches this pattern of fnmatch, "lxc*"; or for which this returns
                True, called on a thread of its own for those that come later. By default all.
            options: those of a `Monitor`.

        Raises:
            What `Monitor` raises.

        >>> with Monitor.all(match="lxc*") as monitor:  # doctest: +SKIP
        ...     for event in monitor:
        ...         print(event.pair_name, event)
        """
        from netkit_bpf.functions.following.pair_follower import PairFollower

        if match is not None and not isinstance(match, str) and not callable(match):
            raise TypeError(f"match must be a pattern of names or a callable, not {type(match).__name__}")
        netns = NetNS.current() if netns is None else expect(netns, NetNS, "netns", "NetNS.open() takes a name")
        with contextlib.ExitStack() as undo:
            monitor = cls(endless=True, **options)
            undo.callback(monitor.close)
            monitor._follower = follower = PairFollower(netns, match, monitor)
            weakref.finalize(monitor, follower.close)
            follower.start()
            undo.pop_all()
        return monitor

    def watches(self, pair: NetkitPair) -> bool:
        """Whether it watches the pair now, however that was opened.

        Raises:
            OSError: ENODEV, the pair is gone.
        """
        with self._changing:
            return self._number_of(pair) is not None

    def add(self, pair: NetkitPair) -> None:
        """Watch a further pair, of whose packets none is unseen once this returns.

        `stats.pairs` tells from when on. On any failure nothing of it is attached. Any thread may add pairs.

        Raises:
            ValueError: the monitor is closed, or has ended with its last pair; the pair is watched already.
            OSError: ENODEV, the pair is gone; EMFILE, descriptors run out; ENOSPC, 65536 pairs are watched, or have
                ended with events that were not read.

        >>> monitor.add(NetkitPair.open("nk1"))  # doctest: +SKIP
        """
        (chosen,) = expect_pairs(pair)
        with self._changing:
            self._attach(chosen)

    def remove(self, pair: NetkitPair) -> None:
        """Watch a pair no longer. Its events until then are delivered, and its counts stay in `stats.pairs`.

        Idempotent for a pair that was deleted. Any thread may remove pairs.

        Raises:
            ValueError: the monitor is closed, or does not watch the pair.
        """
        (chosen,) = expect_pairs(pair)
        with self._changing:
            try:
                number = self._number_of(chosen)
            except OSError as error:
                if error.errno == errno.ENODEV:
                    return
                raise
            if number is None:
                raise ValueError(f"{chosen.primary.name} is not watched")
            self.remove_pair(number)

    def _attach(self, pair: NetkitPair) -> None:
        if self._number_of(pair) is not None:
            raise ValueError(f"{pair.primary.name} is watched already: each pair can be watched once")
        number = self.add_pair(pair.primary.name, self._sides, netns_cookie=pair.primary.netns.cookie)
        with contextlib.ExitStack() as undo:
            undo.callback(self.give_up_pair, number)
            with contextlib.closing(self._programs.load(number, self.add_counts)) as obj:
                observer = self._observe(pair, obj)
            undo.callback(observer.close)
            self.start_pair(number, observer)
            undo.pop_all()

    def _observe(self, pair: NetkitPair, obj: BPFObject) -> Observer:
        programs: dict[Side | str, Program] = {side: obj.programs[f"monitor_{side}"] for side in self._sides}
        return Observer(
            pair,
            programs,
            verdict=obj.variables["verdict"],
            name="monitor",
            filter=self._filter,
            before=self._before,
            after=self._after,
            redirected=self._redirected,
            standby={side: obj.programs[f"monitor_{side}_again"] for side in self._sides} if self._keep_first else None,
            recording=obj.variables["recording"] if self._keep_first else None,
        )

    def _number_of(self, pair: NetkitPair) -> int | None:
        """The number of a pair that is watched, however it was opened: its programs are on the hooks."""
        watched = self.program_ids()
        hooks = [pair.hook(side) for side in self._sides]
        if self._redirected:
            hooks.append(pair.peer.hook("ingress"))
        there = {program.id for hook in hooks for program in hook.programs}
        return next((number for number, ids in watched.items() if there.intersection(ids)), None) if there else None

    def close(self) -> None:
        """Detach the programs, stop reading and wake all waiting readers. Idempotent.

        Unread events are dropped; the final `stats` count them as pending.
        """
        with contextlib.ExitStack() as last_first:  # if one step fails, the rest still runs
            if self._follower is not None:
                last_first.callback(self._follower.close)  # last, without the lock: its thread may be adding a pair
            last_first.enter_context(self._changing)
            # Attached programs call each other through maps, which the kernel empties when nothing holds them.
            last_first.callback(self._programs.close)
            last_first.callback(super().close)
