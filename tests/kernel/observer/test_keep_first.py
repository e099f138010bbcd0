"""A monitor that comes back to the front when another program is attached before it."""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from elsewhere import needs_tcx
from netkit_bpf import BPFObject, Filter, Firewall, Monitor, NetkitPair, Observer, Program, Side
from netkit_bpf._core import Program as CoreProgram
from netkit_bpf.functions.monitor_programs import load_programs
from netkit_bpf.observer.filter import SideFilters
from packets import ipv6, udp
from programs import OBSERVER, load
from sender import UDP, Sender
from traffic import Wire, ping
from veth import quiet_pair

pytestmark = needs_tcx


@pytest.fixture
def others() -> Iterator[BPFObject]:
    with load() as obj:
        yield obj


def is_first(monitor: Monitor, timeout: float = 5.0) -> bool:
    """Whether nothing precedes it in time; reading is what looks."""
    end = time.monotonic() + timeout
    while any(monitor.observers[0].predecessors.values()):
        if time.monotonic() > end:
            return False
        monitor.read_batch(timeout=0.05)
    return True


@pytest.mark.parametrize(("side", "name"), [("primary", "pass"), ("peer", "drop")])
def test_a_program_that_came_in_front_hides_packets_no_longer(
    wire: Wire, others: BPFObject, side: str, name: str
) -> None:
    with Monitor(wire.pair, keep_first=True) as monitor:
        ids = monitor.observers[0].program_ids
        with wire.pair.attach(others.programs[name], side, before="all"):
            assert is_first(monitor)
            assert len(set(ids) & set(monitor.observers[0].program_ids)) == 1  # the other side stays
            ping(wire.left, wire.right, [56], timeout=0.2)
            seen = Counter(event.side for event in monitor.events(timeout=0.5))
            assert seen[Side(side)] >= 1  # ARP, if that is dropped
        assert is_first(monitor)


def moved_under_traffic(monitor: Monitor, pair: NetkitPair, send: Sender, others: BPFObject, times: int) -> list[int]:
    """The ports of what was recorded, while others came in front of the monitor so many times."""
    ports: list[int] = []
    is_over = threading.Event()

    def keep_sending() -> None:
        while not is_over.is_set() and send.sent < 60_000:
            send(10)
            time.sleep(0.001)

    thread = threading.Thread(target=keep_sending)
    thread.start()
    try:
        for _ in range(times):
            with pair.attach(others.programs["first"], "primary", before="all"):
                end = time.monotonic() + 10
                while any(monitor.observers[0].predecessors.values()):
                    assert time.monotonic() < end
                    ports += [event.src_port or 0 for event in monitor.read_batch(timeout=0.05)]
    finally:
        is_over.set()
        thread.join()
    return ports + [event.src_port or 0 for event in monitor.events(timeout=0.5)]


def test_each_packet_is_recorded_once_while_it_moves(others: BPFObject) -> None:
    with quiet_pair() as pair, Monitor(pair, keep_first=True) as monitor, Sender(pair) as send:
        ports = moved_under_traffic(monitor, pair, send, others, 12)
        assert monitor.stats.primary.lost == 0
        assert ports == list(range(1, send.sent + 1))
        assert monitor.stats.primary.seen == send.sent > 500


def test_each_packet_is_filtered_once_while_it_moves(others: BPFObject) -> None:
    """Ports that are even match; a packet that does not is counted by one of both copies' filters."""
    even = "udp and ether[55] & 1 = 0"  # behind the headers of Ethernet and IPv6
    with quiet_pair() as pair, Monitor(pair, keep_first=True, filter=even) as monitor, Sender(pair) as send:
        assert monitor.observers[0].filter
        ports = moved_under_traffic(monitor, pair, send, others, 6)
        assert ports == list(range(2, send.sent + 1, 2))
        assert (monitor.stats.primary.seen, monitor.filtered.primary) == (len(ports), send.sent - len(ports))


def test_the_filters_of_both_copies_agree_who_counts_and_what_is_said() -> None:
    at_first, other_waits, other_leaves, second = 0, 2, 5, 1  # enum nk_recording of bpf/monitor.bpf.c
    with load_programs(0, 1 << 16, keep_first=True) as obj, on_one_cpu():
        section, recording, _ = obj.variables["recording"]._open().variable("recording")
        _, verdict, _ = obj.variables["verdict"]._open().variable("verdict")
        cells = obj.variables["verdict"]._open().map(section)
        filters = SideFilters(Filter("tcp"), cells, verdict, recording)
        behind = filters.before(obj.programs["monitor_primary"]._open(), 0)
        in_front = filters.before_second(obj.programs["monitor_primary_again"]._open(), 0)

        def passes(program: CoreProgram, state: int) -> tuple[int, int]:
            """What the filter says then of a packet that does not match, and how many it counted."""
            obj.variables["recording"].value = (state, 0)
            before = filters.filtered[0]
            retval, *_ = program.test_run(ipv6(UDP, udp(1, 9)), 1, b"")
            return ctypes.c_int32(retval).value, filters.filtered[0] - before

        obj.variables["verdict"].value = (2, -1)  # DROP: the last one of a blackhole
        assert passes(behind, at_first) == (2, 1)
        assert passes(in_front, at_first | other_waits) == (-1, 0)
        assert passes(behind, at_first | other_waits) == (2, 1)
        assert passes(in_front, at_first | other_waits) == (-1, 0)
        assert passes(behind, other_leaves) == (2, 1)  # left to it before the other took over
        assert passes(behind, other_leaves) == (2, 0)
        assert passes(in_front, other_leaves) == (-1, 1)
        assert passes(behind, other_leaves) == (2, 0)
        assert passes(in_front, second) == (2, 1)
        assert not obj.maps["counts"][0][0].seen
        filters.close()


def test_a_packet_that_was_left_to_the_copy_behind_is_recorded_there_once() -> None:
    """Between both copies, in one packet's way, the one in front may take over."""
    at_first, other_waits, other_leaves, second = 0, 2, 5, 1  # enum nk_recording of bpf/monitor.bpf.c
    with load_programs(0, 1 << 16, keep_first=True) as obj, on_one_cpu():
        behind, in_front = obj.programs["monitor_primary"], obj.programs["monitor_primary_again"]

        def passes(program: Program, recording: int) -> tuple[int, int]:
            """What the program says then, and how many packets it recorded."""
            obj.variables["recording"].value = (recording, 0)
            before = seen()
            retval = program.test_run(ipv6(UDP, udp(1, 9))).retval
            return ctypes.c_int32(retval).value, seen() - before

        def seen() -> int:
            return sum(each.seen for each in obj.maps["counts"][0])

        obj.variables["verdict"].value = (2, -1)  # DROP: the last one of a blackhole
        assert passes(behind, at_first) == (2, 1)
        assert passes(in_front, at_first | other_waits) == (-1, 0)
        assert passes(behind, at_first | other_waits) == (2, 1)
        assert passes(in_front, at_first | other_waits) == (-1, 0)
        assert passes(behind, other_leaves) == (2, 1)  # left to it before the other took over
        assert passes(behind, other_leaves) == (2, 0)
        assert passes(in_front, other_leaves) == (-1, 1)
        assert passes(behind, other_leaves) == (2, 0)
        assert passes(in_front, second) == (2, 1)


@contextmanager
def on_one_cpu() -> Iterator[None]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


def test_a_firewall_and_another_monitor_stay_where_they_are(wire: Wire, others: BPFObject) -> None:
    with (
        Monitor(wire.pair, keep_first=True) as one,
        Monitor(wire.pair, keep_first=True) as other,
        Firewall(wire.pair, ["pass primary"]) as firewall,
    ):
        before = [hook_ids(wire.pair, side) for side in ("primary", "peer")]
        for monitor in (one, other):
            list(monitor.events(timeout=0.5))
        assert [hook_ids(wire.pair, side) for side in ("primary", "peer")] == before
        with wire.pair.attach(others.programs["drop"], "peer", before="all") as link:
            # In front of the firewall it is the firewall's matter.
            list(one.events(timeout=0.5))
            assert hook_ids(wire.pair, "peer") == [link.program.id, *before[1]]
        assert firewall is not None


def hook_ids(pair: NetkitPair, side: str) -> list[int]:
    return [program.id for program in pair.hook(side).programs]


def test_what_it_does_not_go_with_is_refused(wire: Wire, others: BPFObject) -> None:
    for options in ({"before": "all"}, {"after": others.programs["first"]}):
        with pytest.raises(ValueError, match="takes neither before nor after"):
            Monitor(wire.pair, keep_first=True, **options)
    assert hook_ids(wire.pair, "primary") == []


def test_close_leaves_nothing_wherever_it_is(wire: Wire, others: BPFObject) -> None:
    with wire.pair.attach(others.programs["first"], "peer") as link:
        with Monitor(wire.pair, keep_first=True) as monitor:
            with wire.pair.attach(others.programs["first"], "primary", before="all"):
                assert is_first(monitor)
        assert hook_ids(wire.pair, "primary") == []
        assert hook_ids(wire.pair, "peer") == [link.program.id]


def test_an_observer_takes_its_copies_whole(wire: Wire) -> None:
    with load(OBSERVER) as obj:
        programs = {side: obj.programs[f"of_{side}"] for side in ("primary", "peer")}
        verdict, one = obj.variables["verdict"], obj.variables["one_verdict"]
        with pytest.raises(TypeError, match="recording must be a Variable"):
            Observer(wire.pair, programs, verdict=verdict, standby=programs)
        with pytest.raises(ValueError, match="recording goes with standby"):
            Observer(wire.pair, programs, verdict=verdict, recording=verdict)
        with pytest.raises(ValueError, match="'one_verdict' has 4 bytes: a number for each side is __s32"):
            Observer(wire.pair, programs, verdict=verdict, standby=programs, recording=one)
        with pytest.raises(ValueError, match="one section of one BPF object"), load(OBSERVER) as another:
            Observer(wire.pair, programs, verdict=verdict, standby=programs, recording=another.variables["verdict"])
        with pytest.raises(ValueError, match="standby must have a program for each side that programs have"):
            Observer(wire.pair, {"peer": programs["peer"]}, verdict=verdict, standby=programs, recording=verdict)
        assert hook_ids(wire.pair, "primary") == hook_ids(wire.pair, "peer") == []
