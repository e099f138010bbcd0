# SPDX-License-Identifier: MIT
"""The account of a monitor, as it shows itself."""

from __future__ import annotations

import pickle

from netkit_bpf import MonitorStats, ReadingStats, SideStats

STATS = MonitorStats(SideStats(5, 3, 1, 1), SideStats(4, 4, 0, 0), ReadingStats(9, 99, 0, 9, 2, 1))


def test_stats_name_all_that_they_hold_a_line_each() -> None:
    assert repr(STATS).splitlines() == [
        "MonitorStats(primary=SideStats(seen=5, delivered=3, lost=1, pending=1),",
        "             peer=SideStats(seen=4, delivered=4, lost=0, pending=0),",
        "             reading=ReadingStats(ring_fill=9, ring_size=99, queue_fill=0, queue_size=9, naps=2, wakeups=1))",
    ]
    assert eval(repr(STATS)).reading == STATS.reading


def test_stats_stay_a_pair() -> None:
    primary, peer = STATS
    assert (primary, peer) == STATS == tuple(STATS)
    assert STATS.total == SideStats(9, 7, 1, 1)
    again = pickle.loads(pickle.dumps(STATS))
    assert (again, again.total) == (STATS, STATS.total)
