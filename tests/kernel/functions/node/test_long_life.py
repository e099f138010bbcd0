# SPDX-License-Identifier: MIT
"""A monitor whose pairs come and go for months: what it keeps depends on how many there are at a time.

NETKIT_BPF_CYCLES says how many pairs come and go: with 20000 descriptors and memory are those of the first.
"""

from __future__ import annotations

import json
import os
import resource
from pathlib import Path

import pytest

from capture_file import CaptureFile
from elsewhere import needs_tcx
from netkit_bpf import Export, Monitor, NetkitPair
from netkit_bpf.events import observed_pairs
from sender import send

pytestmark = needs_tcx
PAIRS = int(os.environ.get("NETKIT_BPF_CYCLES", "80"))
AT_A_TIME = 3
KEPT = 20
MEMORY = 2048  # KiB, for what Python and malloc keep


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accounts of ended pairs."""
    monkeypatch.setattr(observed_pairs, "_KEPT", KEPT)


def held() -> int:
    return len(os.listdir("/proc/self/fd"))


def memory() -> int:
    """KiB, without what is shared."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() >> 10


@pytest.mark.usefixtures("few")
def test_pairs_that_have_gone_leave_nothing_but_their_accounts(pairs: list[NetkitPair]) -> None:
    """More of them than a monitor loads programs for at once."""
    sent, seen = dict.fromkeys(range(AT_A_TIME), 0), dict.fromkeys(range(AT_A_TIME), 0)
    descriptors, used = 0, 0
    with Monitor(endless=True) as monitor:
        for number in range(PAIRS):
            of = number % AT_A_TIME
            monitor.add(pairs[of])
            send(pairs[of], 1 + number % 5)
            sent[of] += 1 + number % 5
            for _ in range(1 + number % 5):
                event = monitor.read(10.0)
                assert event is not None
                seen[int(event.pair_name.removeprefix("ve"))] += 1
            monitor.remove(pairs[of])
            if number == PAIRS * 3 // 4:
                descriptors, used = held(), memory()
        assert held() <= descriptors
        assert memory() <= used + MEMORY
        assert sent == seen
        stats = monitor.stats
        assert len(stats.pairs) <= KEPT + AT_A_TIME
        assert stats.primary.seen == sum(sent.values()) == stats.primary.delivered
        assert stats.older[0].seen + sum(pair.primary.seen for pair in stats.pairs) == stats.primary.seen
        assert len(monitor.origins) <= AT_A_TIME  # numbers
    assert monitor.stats.primary.seen == sum(sent.values())


def test_a_number_is_not_given_away_while_events_of_its_pair_wait(pairs: list[NetkitPair]) -> None:
    first, second, third = pairs
    with Monitor(first, endless=True) as monitor:
        send(first, 2)
        monitor.remove(first)
        monitor.add(second)
        assert [name for name, _ in monitor.origins] == ["ve0", "ve1"]
        send(second, 1)
        assert monitor.read(10.0)
        monitor.remove(second)
        monitor.add(third)
        assert [name for name, _ in monitor.origins] == ["ve0", "ve1", "ve2"]
        send(third, 1)
        names = [event.pair_name for event in monitor.events(timeout=0.3)]
        assert names == ["ve0", "ve1", "ve2"]
        monitor.add(second)
        assert [name for name, _ in monitor.origins] == ["ve1", "ve1", "ve2"]
        send(second, 4)
        assert [event.pair_name for event in monitor.events(timeout=0.3)] == ["ve1"] * 4
        assert [(pair.name, pair.primary) for pair in monitor.stats.pairs] == [
            ("ve0", (2, 2, 0, 0)),
            ("ve1", (1, 1, 0, 0)),
            ("ve2", (1, 1, 0, 0)),
            ("ve1", (4, 4, 0, 0)),
        ]


def test_batches_and_exports_know_the_pairs_that_had_a_number(pairs: list[NetkitPair]) -> None:
    first, second, _ = pairs
    with Monitor(first, endless=True) as monitor, Monitor(second) as other:
        export = Export(monitor)
        send(first, 1)
        old = monitor.read_batch(timeout=10.0)
        monitor.remove(first)
        monitor.add(second)
        send(second, 2)
        new = monitor.read_batch(timeout=10.0)
        assert (old.pair_names, new.pair_names) == (("ve0",), ("ve1",))
        assert [event.pair_name for event in (*old, *new)] == ["ve0", "ve1", "ve1"]
        rows = [json.loads(line) for batch in (old, new) for line in export.stamp(batch).json_lines()]
        assert [row["pair_name"] for row in rows] == ["ve0", "ve1", "ve1"]
        assert {row["netns_cookie"] for row in rows} == {first.primary.netns.cookie}
        with pytest.raises(ValueError, match="this batch is of other pairs than the reader"):
            export.stamp(other.read_batch(timeout=10.0))


@pytest.mark.usefixtures("few")
def test_an_account_grows_also_when_its_pair_came_more_often_than_accounts_are_kept(pairs: list[NetkitPair]) -> None:
    with Monitor(endless=True) as monitor:
        export = Export(monitor)
        for number in range(KEPT + 10):
            monitor.add(pairs[0])
            send(pairs[0], 1)
            assert monitor.read(10.0)
            monitor.remove(pairs[0])
            (account,) = [each for each in export.accounts() if each.side == "primary"]
            assert (account.seen, account.delivered) == (number + 1, number + 1)


def test_a_capture_tells_the_pairs_that_have_one_number_apart(pairs: list[NetkitPair], tmp_path: Path) -> None:
    first, second, _ = pairs
    with Monitor(first, endless=True, snaplen=64) as monitor:
        for pair in (first, second, first):
            if not monitor.watches(pair):
                monitor.add(pair)
            send(pair, 2)
            path = tmp_path / "part.pcapng"
            assert monitor.capture(path, count=1) == 1
            assert monitor.capture(path, count=1) == 1
            file = CaptureFile(path)
            (packet,) = file.packets
            assert file.interfaces[packet.interface].options[2].rstrip(b"\0") == pair.primary.name.encode()
            monitor.remove(pair)
