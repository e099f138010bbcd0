# SPDX-License-Identifier: MIT
"""The packet monitor: the observer that ships with this package, and the reader of what it writes."""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Sequence

from netkit_bpf.bpf.object import BPFObject
from netkit_bpf.bpf.program import Program
from netkit_bpf.bpf.shipped import program_file
from netkit_bpf.devices.pair import NetkitPair
from netkit_bpf.enums import Side, parse
from netkit_bpf.events.packet_reader import PacketReader
from netkit_bpf.functions.cpu_rings import make_cpu_rings, possible_cpus
from netkit_bpf.internal.arguments import Rings, StreamOptions, Thread, expect, expect_in
from netkit_bpf.observer.filter import Filter
from netkit_bpf.observer.observer import Observer

_MIB = 1 << 20
_LARGEST_RING = 1 << 30
_LONGEST_SNAP = 262144  # tcpdump's own
_LEAST_DATA = 16  # bpf/include/netkit_bpf/packet.h, nk_copy_data()


class Monitor(PacketReader):
    """Watches every packet on the hooks of one or more netkit pairs, and alters none.

    It is attached from its construction until `close`, before all other programs of the hooks. A side
    whose policy is blackhole stays one.

    Any thread may read, close it and ask for its stats. Each event goes to one reader, so two readers share the
    stream. Signal handlers run while a read waits. Iterating waits for ever; `events` takes limits. A forked child can
    neither use the monitor nor harm it.

    A single event arrives some tens of microseconds after its packet. When events keep coming, the reader looks after
    them every 0.4 ms at most instead of having each packet wake it, which would cost the packet microseconds.

    Args:
        pair: the pair to watch.
        pairs: more pairs.
        sides: which hooks: "primary", "peer" or both.
        filter: a pcap-filter(7) expression, "icmp6 or tcp port 443", or a `Filter` made of one. It is executed in the
            kernel, before a record is made: a packet that does not match costs no more than that, and goes its way all
            the same. It matches what is on the wire: behind a VLAN tag, "vlan and icmp6". Names of hosts are looked up
            once, when the filter is made.
        snaplen: how many bytes of each packet an event carries as its `data`, from the Ethernet header on, as on the
            wire; 0 to 262144. A packet then takes that much more of the ring, or its own length if it is shorter. With
            0 there are none, which costs nothing. A buffer of that size is kept for each CPU.
        ring_size: bytes of the ring buffer that all hooks share: a power of two, 4096 to 1 GiB. A packet
            takes 96 bytes until the reader's thread has it, and its data with a snaplen.
        rings: "shared" is one ring for all CPUs, which write to it one at a time; "percpu" is a ring of `ring_size`
            bytes for each CPU that is online, for machines on which many send at once: a packet then never waits for
            another CPU's. The events of each CPU come in order, those of several one block after the other. With
            "ordered" each CPU has its ring, and all events come in the order of their times, which costs some
            nanoseconds each: an event then waits for older ones, microseconds at most. CPUs that come online later
            share a ring, in which neighbours can be the wrong way round.
        queue_size: bytes of events that may wait for Python behind the ring.
        thread: which thread empties the ring while Python does something else: "shared" is one for all monitors, "own"
            one for this monitor alone. With None events stay in the ring until they are read, which is the quickest for
            a program that does nothing but read: an event takes some 5 microseconds less, and packets are lost as soon
            as reading pauses for longer than the ring holds.

    Raises:
        ValueError: an argument is not possible, whatever the kernel; of a filter, in libpcap's words.
        FileNotFoundError: a filter needs libpcap, and there is none.
        PermissionError: CAP_BPF or CAP_NET_ADMIN is missing.
        OSError: ENODEV, a pair is gone.

    >>> with Monitor(pair) as monitor:  # doctest: +SKIP
    ...     for event in monitor.events(timeout=1.0):
    ...         print(event)
    """

    def __init__(
        self,
        pair: NetkitPair,
        *pairs: NetkitPair,
        sides: Sequence[Side | str] = (Side.PRIMARY, Side.PEER),
        filter: str | Filter | None = None,  # noqa: A002 - tcpdump's and libpcap's word
        snaplen: int = 0,
        ring_size: int = 4 * _MIB,
        rings: Rings = "shared",
        queue_size: int = StreamOptions().queue_size,
        thread: Thread | None = "shared",
    ) -> None:
        watched = _check_sides(sides)
        _check_ring_size(ring_size)
        if expect_in(snaplen, range(_LONGEST_SNAP + 1), "snaplen") + self.RECORD_SIZE >= ring_size:
            raise ValueError(f"ring_size must have room for a packet of {snaplen} bytes, not be {ring_size}")
        StreamOptions(queue_size, rings, thread).check()
        hint = "several go one by one, Monitor(first, second); NetkitPair.open() takes a name"
        chosen_pairs = [expect(each, NetkitPair, "pair", hint) for each in (pair, *pairs)]
        devices = [each.primary for each in chosen_pairs]
        if len({(device.netns, device.ifindex) for device in devices}) < len(devices):
            raise ValueError("a pair is named twice: each can be watched once by a monitor")

        chosen = filter if isinstance(filter, Filter) or filter is None else Filter(filter)
        objects: list[BPFObject] = []
        observers: list[Observer] = []
        with contextlib.ExitStack() as undo:  # unless all of it succeeds
            for index, each in enumerate(chosen_pairs):
                shared = objects[0] if objects else None
                obj = load_programs(index, ring_size, shared, snaplen, rings=rings)
                undo.callback(obj.close)
                objects.append(obj)
                if shared is None:
                    maps = [obj.maps["events"]] if rings == "shared" else make_cpu_rings(obj, ring_size)
                programs: dict[Side | str, Program] = {side: obj.programs[f"monitor_{side}"] for side in watched}
                observer = Observer(each, programs, verdict=obj.variables["verdict"], name="monitor", filter=chosen)
                undo.callback(observer.close)
                observers.append(observer)
            super().__init__(
                maps,
                rings=rings,
                observers=observers,
                snaplen=snaplen,
                name="monitor",
                queue_size=queue_size,
                thread=thread,
            )
            undo.pop_all()
        for obj in objects:  # has a descriptor of each of them too: those of many pairs add up
            for program in obj.programs.values():
                program.close()
            for unused in (*obj.maps.values(), *maps):
                unused.close()
        self._objects = objects  # last, to be let go of last

    def close(self) -> None:
        """Detach the programs, end the reading and wake whoever waits. Idempotent.

        Events that nobody has read are dropped; the final `stats` count them as pending.
        """
        with contextlib.ExitStack() as last_first:  # whatever fails, the rest is closed
            # While the programs are attached they call each other by way of maps, which empty when nobody holds them.
            for obj in self._objects:
                last_first.callback(obj.close)
            last_first.callback(super().close)
            for observer in self.observers:
                last_first.callback(observer.close)


def load_programs(
    index: int,
    ring_size: int,
    shared: BPFObject | None = None,
    snaplen: int = 0,
    *,
    rings: Rings = "shared",
) -> BPFObject:
    """Load the programs for the pair number `index`; all after the first share its rings and counters."""
    obj = BPFObject.open(program_file("monitor"))
    obj.variables["pair_index"].value = index
    obj.maps["events"].max_entries = ring_size
    if snaplen:
        obj.variables["snaplen"].value = snaplen
        obj.maps["scratch"].value_size += max(snaplen, _LEAST_DATA)
        obj.maps["scratch"].max_entries = possible_cpus()
    if rings != "shared":
        obj.variables["percpu"].value = True
        obj.variables["ordered"].value = rings == "ordered"
        obj.maps["cpu_rings"].max_entries = possible_cpus()
    if shared is not None:
        for name in ("events", "cpu_rings", "counts"):
            obj.maps[name].reuse(shared.maps[name])
    obj.load()
    return obj


def probe_load() -> None:
    """Load the programs and let them go again; raises what loading raises."""
    load_programs(0, mmap.PAGESIZE).close()


def _check_sides(sides: Sequence[Side | str]) -> list[Side]:
    if isinstance(sides, str):
        sides = (sides,)
    expect(sides, Sequence, "sides")  # type: ignore[type-abstract]
    parsed = [parse(Side, side, "sides") for side in sides]
    if not parsed or len(set(parsed)) != len(parsed):
        raise ValueError("sides must name one or both sides, each once")
    return parsed


def _check_ring_size(ring_size: int) -> None:
    expect(ring_size, int, "ring_size")
    if not mmap.PAGESIZE <= ring_size <= _LARGEST_RING or ring_size & (ring_size - 1):
        raise ValueError(f"ring_size must be a power of two from {mmap.PAGESIZE} to {_LARGEST_RING}, not {ring_size}")
