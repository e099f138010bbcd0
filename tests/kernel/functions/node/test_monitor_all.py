# SPDX-License-Identifier: MIT
"""A monitor of all pairs of a namespace: veth devices take the place of netkit devices."""

from __future__ import annotations

import errno
import logging
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from capture_file import CaptureFile
from elsewhere import needs_tcx
from in_child import in_child
from netkit_bpf import Device, Monitor, NetkitPair, NetNS
from netkit_bpf.functions.following import link_socket, pair_follower
from sender import Sender
from veth import disable_ipv6

pytestmark = needs_tcx
STORM = int(os.environ.get("NETKIT_BPF_CYCLES", "200"))  # pairs
ROUNDS, OF_A_ROUND = 10, 20


@pytest.fixture
def netns(monkeypatch: pytest.MonkeyPatch) -> Iterator[NetNS]:
    def open_by_primary(ifindex: int, netns: NetNS) -> NetkitPair | None:
        try:
            name = Device.open(ifindex, netns).name
            return None if name == "lo" or name.endswith("p") else pair_of(name, netns)
        except OSError:
            return None

    monkeypatch.setattr(pair_follower, "open_by_primary", open_by_primary)
    monkeypatch.setattr(pair_follower, "pairs", lambda netns: [pair_of(name, netns) for name in names(netns)])
    with NetNS.create() as made:
        disable_ipv6(made)
        yield made


def names(netns: NetNS) -> list[str]:
    return [name for name in netns.call(_names) if name != "lo" and not name.endswith("p")]


def _names() -> list[str]:
    return [name for _, name in socket.if_nameindex()]


def pair_of(name: str, netns: NetNS) -> NetkitPair:
    return NetkitPair(Device.open(name, netns), Device.open(f"{name}p", netns), owned=False)


def make(netns: NetNS, *made: str, group: int = 7) -> list[NetkitPair]:
    lines = [f"link add {name} group {group} up type veth peer name {name}p group {group}" for name in made]
    lines += [f"link set {name}p up" for name in made]
    netns.run(["ip", "-batch", "-"], input="\n".join(lines), text=True, check=True)
    return [pair_of(name, netns) for name in made]


def wait_for(monitor: Monitor, *wanted: str) -> None:
    """Until these pairs are watched."""
    end = time.monotonic() + 30
    while not {pair.name for pair in monitor.stats.pairs if not pair.end} >= {*wanted}:
        assert time.monotonic() < end, monitor.stats.pairs
        time.sleep(0.01)


def test_every_frame_of_pairs_that_come_and_go_is_in_the_account_of_its_pair(netns: NetNS) -> None:
    make(netns, "early")
    sent: dict[str, int] = {}
    with Monitor.all(netns) as monitor:
        wait_for(monitor, "early")
        for number in range(ROUNDS):
            pairs = make(netns, *(f"ve{number}x{index}" for index in range(OF_A_ROUND)), group=8)
            wait_for(monitor, *(pair.primary.name for pair in pairs))
            for index, pair in enumerate(pairs):
                sent[pair.primary.name] = 1 + number + index
                with Sender(pair) as sender:
                    sender(sent[pair.primary.name])
            netns.run(["ip", "link", "delete", "group", "8"], check=True)
        seen = dict.fromkeys(sent, 0)
        for event in monitor.events(timeout=0.5):
            seen[event.pair_name] += 1
        assert seen == sent
        accounts = {pair.name: pair for pair in monitor.stats.pairs}
        assert {name: accounts[name].primary.delivered for name in sent} == sent
        assert {pair.end for name, pair in accounts.items() if name != "early"} == {"deleted"}
        assert all(pair.end_ns is None or pair.start_ns < pair.end_ns for pair in accounts.values())
        assert [each.device for each in monitor.observers] == ["early"]


def test_a_storm_of_pairs_leaves_nothing(netns: NetNS, caplog: pytest.LogCaptureFixture) -> None:
    """While events flow. NETKIT_BPF_CYCLES=1000 is a larger one."""
    (steady,) = make(netns, "steady")
    before = len(os.listdir("/proc/self/fd"))
    names: Counter[str] = Counter()
    ended: Counter[str] = Counter()
    is_over = threading.Event()
    with caplog.at_level(logging.WARNING, "netkit_bpf"), Monitor.all(netns) as monitor, Sender(steady) as sender:
        opened = len(os.listdir("/proc/self/fd"))

        def keep_sending() -> None:
            while not is_over.wait(0.001):
                sender(10)

        def read() -> None:
            names.update(event.pair_name for event in monitor.events(timeout=1.0))

        threads = [threading.Thread(target=each) for each in (keep_sending, read)]
        with monitor.changes() as changes:
            for thread in threads:
                thread.start()
            for begin in range(0, STORM, 50):
                made = [f"ve{number}" for number in range(begin, begin + 50)]
                lines = [f"link add {name} group 8 type veth peer name {name}p group 8" for name in made]
                netns.run(["ip", "-batch", "-"], input="\n".join(lines), text=True, check=True)
                netns.run(["ip", "link", "delete", "group", "8"], check=True)
            (late,) = make(netns, "late")
            wait_for(monitor, "late")
            with Sender(late) as other:
                other(3)
            is_over.set()
            for thread in threads:
                thread.join()
            ended.update(change.kind for change in changes.events(timeout=0))
        stats = monitor.stats
        assert (names["steady"], names["late"], len(names)) == (sender.sent, 3, 2)
        assert stats.primary == (sender.sent + 3, sender.sent + 3, 0, 0)
        assert ended["added"] == ended["deleted"] + 2
        assert len(monitor.observers) == 2
        # What takes further pairs was loaded at most once more than there were pairs at a time.
        assert len(monitor.origins) <= 52
        assert len(os.listdir("/proc/self/fd")) <= opened + 3  # the links of one more pair, and what tells of ends
    assert {record.getMessage()[:26] for record in caplog.records} <= {"notifications of pairs tha"}
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_the_kernel_could_not_tell_is_looked_up_and_said(
    netns: NetNS, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A socket without room for more than a notification."""
    monkeypatch.setattr(link_socket, "_RECEIVE_BUFFER", 1)
    with Monitor.all(netns) as monitor:
        made = make(netns, *(f"ve{number}" for number in range(10)))
        wait_for(monitor, *(pair.primary.name for pair in made))
    assert "were lost, so its pairs were listed anew" in caplog.text


def test_a_capture_has_the_pairs_that_come_while_it_is_written(netns: NetNS, tmp_path: Path) -> None:
    make(netns, "ve0")
    with Monitor.all(netns, snaplen=64) as monitor, ThreadPoolExecutor() as pool:
        captured = pool.submit(monitor.capture, tmp_path / "all.pcapng", count=5)
        for count, name in enumerate(("ve1", "ve2"), 2):
            (pair,) = make(netns, name)
            wait_for(monitor, name)
            with Sender(pair) as sender:
                sender(count)
        assert captured.result(30.0) == 5
    file = CaptureFile(tmp_path / "all.pcapng")
    senders = [file.interfaces[packet.interface].options[2].rstrip(b"\0") for packet in file.packets]
    assert senders == [b"ve1"] * 2 + [b"ve2"] * 3


def test_only_pairs_that_match_are_watched_also_after_a_rename(netns: NetNS) -> None:
    make(netns, "lxc1", "other1")
    with Monitor.all(netns, match="lxc*") as monitor:
        _, other = make(netns, "lxc2", "other2")
        wait_for(monitor, "lxc1", "lxc2")
        other.peer.rename("lxc3p")
        other.primary.rename("lxc3")
        wait_for(monitor, "lxc3")
        assert len(monitor.observers) == 3
    with Monitor.all(netns, match=lambda pair: pair.primary.name == "other1") as monitor:
        assert [each.device for each in monitor.observers] == ["other1"]
    with pytest.raises(TypeError, match="match must be a pattern of names or a callable, not int"):
        Monitor.all(netns, match=7)  # type: ignore[arg-type]


def follows() -> bool:
    """Whether a follower runs; an interrupt within Thread.start() leaves one in Python's list that never does."""
    return any(thread.name == "netkit-follower" and thread.is_alive() for thread in threading.enumerate())


def test_it_ends_with_no_pair_and_a_forked_child_does_not_disturb_it(netns: NetNS) -> None:
    (first,) = make(netns, "ve0")
    with Monitor.all(netns) as monitor:

        def close() -> str:
            monitor.close()
            return "closed"

        assert in_child(close) == "closed"
        first.delete()
        assert monitor.read(0.5) is None
        (second,) = make(netns, "ve1")
        wait_for(monitor, "ve1")
        with Sender(second) as sender:
            sender(1)
        event = monitor.read(10.0)
        assert event
        assert event.pair_name == "ve1"
        assert follows()
    assert not follows()


def test_a_loss_is_told_of_without_names(netns: NetNS) -> None:
    (pair,) = make(netns, "ve0")
    with Monitor.all(netns, ring_size=4096, queue_size=4096, thread=None) as monitor, Sender(pair) as sender:
        sender(200)
        with pytest.warns(RuntimeWarning, match="the monitor loses packets"):
            assert list(monitor.events(0.5))


def test_a_namespace_that_is_deleted_is_no_error() -> None:
    with NetNS.create() as netns, Monitor.all(netns) as monitor:
        netns.delete()
        assert monitor.read(0.3) is None
        assert monitor.stats.pairs == ()


def test_a_pair_that_cannot_be_opened_does_not_end_the_watch_for_others(
    netns: NetNS, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    opened = pair_follower.open_by_primary

    def refuse_first(ifindex: int, there: NetNS) -> NetkitPair | None:
        pair = opened(ifindex, there)
        if pair is not None and pair.primary.name == "va":
            raise OSError(errno.EMFILE, "too many open files")
        return pair

    monkeypatch.setattr(pair_follower, "open_by_primary", refuse_first)
    with Monitor.all(netns) as monitor:
        make(netns, "va")
        make(netns, "vb")
        wait_for(monitor, "vb")
        assert [each.name for each in monitor.stats.pairs or ()] == ["vb"]
    assert "too many open files" in caplog.text


def test_a_monitor_that_is_let_go_of_ends_its_thread(netns: NetNS) -> None:
    before = threading.active_count()
    monitor = Monitor.all(netns)
    assert threading.active_count() == before + 1
    with pytest.warns(ResourceWarning, match="Monitor"):
        del monitor
    assert threading.active_count() == before
