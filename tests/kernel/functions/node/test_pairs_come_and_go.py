# SPDX-License-Identifier: MIT
"""A monitor whose pairs are added, removed and deleted while it runs; and one that nothing wakes."""

from __future__ import annotations

import errno
import json
import signal
import threading
import time
from pathlib import Path

import pytest

from elsewhere import needs_tcx
from held import held_elsewhere
from in_child import in_child
from netkit_bpf import Device, Export, Monitor, MonitorStats, NetkitPair, NetNS, PairStats
from sender import send

pytestmark = needs_tcx
REST = 1.0  # seconds in which nothing happens


def balanced(stats: MonitorStats) -> tuple[PairStats, ...]:
    """The accounts of the pairs, which add up to those of the sides."""
    for side in ("primary", "peer"):
        sums = [sum(column) for column in zip(*(getattr(pair, side) for pair in stats.pairs), strict=True)]
        assert sums == [*getattr(stats, side)]
    assert all(side.seen == side.delivered + side.lost + side.pending for pair in stats.pairs for side in pair[1:3])
    return stats.pairs


def hooks(pair: NetkitPair) -> list[str | None]:
    return [program.name for side in ("primary", "peer") for program in pair.programs(side).programs]


def test_each_pair_has_its_own_account_from_add_to_remove(pairs: list[NetkitPair]) -> None:
    first, second, third = pairs
    with Monitor(first, second) as monitor:
        send(first, 1)
        send(third, 1)  # not watched yet
        before = time.time_ns()
        monitor.add(third)
        send(third, 3)
        monitor.remove(second)
        assert hooks(second) == []
        send(second, 1)
        names = [event.pair_name for event in monitor.events(timeout=0.3)]
        assert sorted(names) == ["ve0", "ve2", "ve2", "ve2"]
        accounts = balanced(monitor.stats)
        assert [(pair.name, pair.primary.seen, pair.end) for pair in accounts] == [
            ("ve0", 1, None),
            ("ve1", 0, "removed"),
            ("ve2", 3, None),
        ]
        assert accounts[0].start_ns < before <= accounts[2].start_ns
        assert accounts[1].end_ns
        assert [each.device for each in monitor.observers] == ["ve0", "ve2"]
        assert repr(monitor) == "<Monitor ve0, ve2 (primary, peer) open>"
    assert balanced(monitor.stats)[2].primary == (3, 3, 0, 0)
    assert hooks(first) == hooks(third) == []


def test_a_pair_that_is_deleted_ends_alone_and_the_last_one_ends_the_reading(pairs: list[NetkitPair]) -> None:
    first, second, third = pairs
    with Monitor(first, second) as monitor:
        send(first, 2)
        first.delete()
        assert monitor.read(10.0)
        assert monitor.read(10.0)
        assert monitor.read(0.5) is None
        assert [pair.end for pair in balanced(monitor.stats)] == ["deleted", None]
        monitor.remove(first)  # it has ended already
        send(second, 1)
        second.delete()
        assert monitor.read(10.0)
        with pytest.raises(OSError, match="monitor ve1: No such device") as caught:
            monitor.read(10.0)
        assert caught.value.errno == errno.ENODEV
        with pytest.raises(ValueError, match="the reading has ended: its last pair was deleted"):
            monitor.add(third)
        assert hooks(third) == []
        assert [pair.primary for pair in balanced(monitor.stats)[:2]] == [(2, 2, 0, 0), (1, 1, 0, 0)]


def test_a_pair_is_watched_once_whichever_way_it_is_named(pairs: list[NetkitPair]) -> None:
    """By another object, and by another descriptor of its namespace."""
    first = pairs[0]
    with Monitor(first) as monitor:
        again = first.primary.netns.call(NetNS.current)
        other = NetkitPair(Device.open("ve0", again), Device.open("ve0p", again), owned=False)
        with pytest.raises(ValueError, match="ve0 is watched already: each pair can be watched once"):
            monitor.add(other)
        with pytest.raises(ValueError, match="ve1 is not watched"):
            monitor.remove(pairs[1])
        assert hooks(first) == ["monitor_primary", "monitor_peer"]
        monitor.remove(other)
        assert hooks(first) == []


def test_pairs_come_and_go_while_eight_threads_read(pairs: list[NetkitPair]) -> None:
    first, second, third = pairs
    taken = [0] * 8
    with Monitor(first) as monitor:

        def read(number: int) -> None:
            taken[number] = sum(1 for _ in monitor.events(timeout=1.0))

        threads = [threading.Thread(target=read, args=[number]) for number in range(8)]
        for thread in threads:
            thread.start()
        for _ in range(4):
            changes = [threading.Thread(target=monitor.add, args=[pair]) for pair in (second, third)]
            for change in changes:
                change.start()
            for change in changes:
                change.join()
            for pair in pairs:
                send(pair, 50)
            monitor.remove(second)
            monitor.remove(third)
        for thread in threads:
            thread.join()
        accounts = balanced(monitor.stats)
        assert len(accounts) == 9
        assert sum(taken) == sum(pair.primary.delivered for pair in accounts) == 3 * 4 * 50
        assert all(pair.primary.seen == 50 for pair in accounts[1:])


def test_what_cannot_be_added_leaves_nothing(pairs: list[NetkitPair]) -> None:
    first, second, gone = pairs
    with Monitor(first) as monitor:
        gone.delete()
        with pytest.raises(OSError, match="No such device"):
            monitor.add(gone)
        with pytest.raises(TypeError, match="pair must be a NetkitPair"):
            monitor.add("ve1")  # type: ignore[arg-type]
        monitor.add(second)
        assert [pair.name for pair in balanced(monitor.stats)] == ["ve0", "ve1"]
    with pytest.raises(ValueError, match="closed"):
        monitor.add(second)
    assert hooks(second) == []


def test_exported_rows_name_the_namespace_of_pairs_that_are_gone(pairs: list[NetkitPair]) -> None:
    first, second, third = pairs
    cookie = first.primary.netns.cookie
    with Monitor(first, second) as monitor:
        export = Export(monitor)
        first.delete()
        monitor.add(third)
        send(third, 1)
        batch = monitor.read_batch(timeout=10.0)
        (line,) = export.stamp(batch).json_lines()
        assert (json.loads(line)["pair_name"], json.loads(line)["netns_cookie"]) == ("ve2", cookie)


def test_a_forked_child_adds_nothing(pairs: list[NetkitPair]) -> None:
    with Monitor(pairs[0]) as monitor:

        def add() -> str:
            signal.alarm(5)  # which ends a child that waits for a lock
            with pytest.raises(ValueError, match="belongs to the process that made it"):
                monitor.add(pairs[1])
            with pytest.raises(ValueError, match="belongs to the process that made it"):
                monitor.remove(pairs[0])
            with pytest.raises(ValueError, match="belongs to the process that made it"):
                monitor.watches(pairs[0])
            monitor.close()
            return "refused"

        with held_elsewhere(monitor._changing):
            assert in_child(add) == "refused"
        assert hooks(pairs[0]) == ["monitor_primary", "monitor_peer"]
        assert hooks(pairs[1]) == []


def switches() -> int:
    """How often a thread of this process was put on a processor."""
    found = 0
    for thread in Path("/proc/self/task").iterdir():
        if thread.name != str(threading.main_thread().native_id):
            lines = (thread / "status").read_text().splitlines()
            found += sum(int(line.split()[1]) for line in lines if "ctxt_switches" in line)
    return found


def test_at_rest_nothing_wakes(pairs: list[NetkitPair]) -> None:
    with Monitor(*pairs) as monitor:
        send(pairs[0], 1)
        assert monitor.read(10.0)
        time.sleep(REST)  # what was read is cleaned up
        before = switches()
        time.sleep(REST)
        assert switches() == before
        send(pairs[1], 1)
        assert monitor.read(10.0)


def test_at_rest_nothing_wakes_after_the_end(pairs: list[NetkitPair]) -> None:
    with Monitor(pairs[0]) as monitor:
        send(pairs[0], 1)
        pairs[0].delete()
        time.sleep(REST)  # the end is noticed before the event is read
        assert monitor.read(10.0)
        with pytest.raises(OSError, match="was deleted"):
            monitor.read(10.0)
        time.sleep(REST)
        before = switches()
        time.sleep(REST)
        assert switches() == before
