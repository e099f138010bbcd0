# SPDX-License-Identifier: MIT
"""What tells of pairs that come and go."""

from __future__ import annotations

import asyncio
import os
import select
import threading
import time

import pytest

from elsewhere import needs_tcx
from in_child import in_child
from netkit_bpf import Monitor, NetkitPair, PairChange
from sender import send

pytestmark = needs_tcx


def told(change: PairChange | None) -> tuple[str, str, int]:
    assert change is not None
    return change.kind, change.pair.name, change.pair.primary.seen


def test_changes_begin_with_what_is_watched_and_come_in_order(pairs: list[NetkitPair]) -> None:
    first, second, third = pairs
    with Monitor(first, endless=True) as monitor, monitor.changes() as changes:
        assert told(changes.read(0)) == ("added", "ve0", 0)
        assert changes.read(0) is None
        monitor.add(second)
        monitor.add(third)
        send(first, 2)
        send(second, 3)
        monitor.remove(second)
        first.delete()
        found = [changes.read(10.0) for _ in range(4)]
        assert [told(each) for each in found] == [
            ("added", "ve1", 0),
            ("added", "ve2", 0),
            ("removed", "ve1", 3),
            ("deleted", "ve0", 2),
        ]
        times = [each.time_ns for each in found if each]
        assert times == sorted(times)
        assert [str(each) for each in found[1:3]] == ["ve2 added", "ve1 removed: seen=3 lost=0"]
        ends = {each.pair.name: each for each in found[2:] if each}
        accounts = {each.name: each for each in monitor.stats.pairs}
        for name, change in ends.items():
            assert (change.time_ns, change.kind) == (accounts[name].end_ns, accounts[name].end)
        for event in monitor.events(timeout=0.2):
            assert event.timestamp_ns <= ends[event.pair_name].time_ns
        with monitor.changes() as later:
            assert told(later.read(0)) == ("added", "ve2", 0)
            assert later.read(0) is None


def test_each_stream_has_its_own_changes_and_those_of_one_are_shared(pairs: list[NetkitPair]) -> None:
    first, second, third = pairs
    taken: list[str] = []
    with Monitor(first) as monitor, monitor.changes() as one, monitor.changes() as shared:

        def read() -> None:
            taken.extend(change.pair.name for change in shared.events(duration=10.0, count=2))

        threads = [threading.Thread(target=read) for _ in range(2)]
        for thread in threads:
            thread.start()
        monitor.add(second)
        monitor.add(third)
        third.delete()
        for thread in threads:
            thread.join()
        assert [told(each)[:2] for each in one.events(duration=10.0, count=4)] == [
            ("added", "ve0"),
            ("added", "ve1"),
            ("added", "ve2"),
            ("deleted", "ve2"),
        ]
    assert sorted(taken) == ["ve0", "ve1", "ve2", "ve2"]


def test_changes_end_with_the_monitor_and_when_they_are_closed(pairs: list[NetkitPair]) -> None:
    def wakes(close: object) -> list[str]:
        found: list[str] = []
        reader = threading.Thread(target=lambda: found.extend(str(each) for each in changes))
        reader.start()
        time.sleep(0.05)
        close()  # type: ignore[operator]
        reader.join(10.0)
        assert not reader.is_alive()
        return found

    with Monitor(pairs[0]) as monitor:
        with monitor.changes() as changes:
            assert wakes(changes.close) == ["ve0 added"]
        with pytest.raises(ValueError, match="the stream of changes is closed"):
            changes.read()
        with monitor.changes() as changes:
            assert wakes(monitor.close) == ["ve0 added"]
            assert changes.read() is None
    with pytest.raises(ValueError, match="the monitor is closed"):
        monitor.changes()


def test_the_end_of_the_last_pair_is_told_too(pairs: list[NetkitPair]) -> None:
    with Monitor(pairs[0]) as monitor, monitor.changes() as changes:
        changes.read(0)
        pairs[0].delete()
        with pytest.raises(OSError, match="was deleted"):
            monitor.read(10.0)
        assert told(changes.read(10.0)) == ("deleted", "ve0", 0)


def test_its_descriptor_wakes_a_loop_and_a_task(pairs: list[NetkitPair]) -> None:
    first, second, _ = pairs

    async def next_one() -> PairChange:
        return await anext(aiter(changes))

    with Monitor(first, second) as monitor, monitor.changes() as changes:
        for _ in range(2):
            assert select.select([changes], [], [], 0)[0]
            changes.read(0)
        assert changes.read(0) is None
        assert not select.select([changes], [], [], 0)[0]
        first.delete()
        assert select.select([changes], [], [], 10.0)[0]
        assert told(changes.read(0))[0] == "deleted"
        second_end = threading.Timer(0.05, second.delete)
        second_end.start()
        assert told(asyncio.run(asyncio.wait_for(next_one(), 10.0))) == ("deleted", "ve1", 0)
        second_end.join()


def test_a_forked_child_neither_reads_nor_harms(pairs: list[NetkitPair]) -> None:
    with Monitor(pairs[0]) as monitor, monitor.changes() as changes:

        def use() -> str:
            with pytest.raises(ValueError, match="belongs to the process that made it"):
                changes.read(0)
            changes.close()
            return "refused"

        assert in_child(use) == "refused"
        assert told(changes.read(0)) == ("added", "ve0", 0)


def test_whoever_does_not_ask_pays_nothing(pairs: list[NetkitPair]) -> None:
    with Monitor(endless=True) as monitor:  # which has room for more pairs
        before = len(os.listdir("/proc/self/fd"))
        monitor.add(pairs[1])
        monitor.remove(pairs[1])
        assert len(os.listdir("/proc/self/fd")) == before
        changes = monitor.changes()
        with pytest.warns(ResourceWarning, match="PairChanges"):
            del changes
        assert len(os.listdir("/proc/self/fd")) <= before + 1  # the monitor's own, by which it tells of ends
