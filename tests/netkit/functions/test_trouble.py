"""Devices that vanish, processes that are killed, resources that must not leak."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from netkit_bpf import Monitor, NetkitPair, NetNS, PacketEvent, reap
from programs import VERDICTS, load
from pytest_netkit_bpf.leaks import Resources
from traffic import End, send_datagrams

# One second is what is promised; reading begins before the deletion, which itself takes a while in a VM.
PROMISED = 1.0


@pytest.fixture
def spaces() -> Iterator[tuple[NetNS, NetNS]]:
    with NetNS.create() as here, NetNS.create("nk-test-there") as there:
        yield here, there


def _delete_pair(pair: NetkitPair, there: NetNS) -> None:
    pair.delete()


def _delete_from_inside_the_container(pair: NetkitPair, there: NetNS) -> None:
    there.run(["ip", "link", "delete", pair.peer.name], check=True)


def _delete_the_namespace(pair: NetkitPair, there: NetNS) -> None:
    there.delete()


@pytest.mark.parametrize(
    "delete",
    [_delete_pair, _delete_from_inside_the_container, _delete_the_namespace],
    ids=lambda function: function.__name__,
)
def test_a_deleted_device_ends_the_monitor_with_an_error(
    spaces: tuple[NetNS, NetNS], delete: Callable[[NetkitPair, NetNS], None]
) -> None:
    here, there = spaces
    pair = NetkitPair.create(netns=here, peer_netns=there)
    pair.primary.add_address("fd00::1/64")
    pair.peer.add_address("fd00::2/64")
    with Monitor(pair) as monitor:
        send_datagrams(End(here, "fd00::1"), End(there, "fd00::2"), [10] * 5)
        delete(pair, there)
        _wait_until_gone(here, "nk0")
        start = time.monotonic()
        events: list[PacketEvent] = []
        with pytest.raises(OSError, match=r"monitor nk0: No such device .* was deleted") as caught:
            events.extend(monitor)
        assert time.monotonic() - start < PROMISED
        assert caught.value.errno == errno.ENODEV
        assert sum(event.protocol == 17 for event in events) == 5  # what came before is still delivered
        with pytest.raises(OSError, match="was deleted"):
            monitor.read()


def test_a_monitor_of_an_opened_pair_does_not_keep_the_container_alive_that_somebody_deletes() -> None:
    with NetNS.create() as here:
        subprocess.run(["ip", "netns", "add", "nk-test-container"], check=True)
        with NetNS.open("nk-test-container") as there:  # let go of at once, as if another process had made the pair
            NetkitPair.create("nk0", peer_name="eth0", netns=here, peer_netns=there)
        pair = NetkitPair.open("nk0", here)
        with Monitor(pair) as monitor, pair.watch() as watch:
            subprocess.run(["ip", "netns", "delete", "nk-test-container"], check=True)
            assert [str(change) for change in watch.events(timeout=20)] == [
                "[primary] nk0 deleted",
                "[peer] eth0 deleted",
            ]
            with pytest.raises(OSError, match=r"monitor nk0: No such device .* was deleted"):
                list(monitor)
        with pytest.raises(OSError, match=r"look up device nk0: No such device"):
            _ = pair.peer


def _delete_the_primary(pair: NetkitPair, there: NetNS) -> None:
    pair.primary.netns.run(["ip", "link", "delete", "nk0"], check=True)


@pytest.mark.parametrize(
    "delete",
    [_delete_from_inside_the_container, _delete_the_namespace, _delete_the_primary],
    ids=lambda function: function.__name__,
)
def test_a_device_that_somebody_deleted_is_missed_at_once(
    spaces: tuple[NetNS, NetNS], delete: Callable[[NetkitPair, NetNS], None]
) -> None:
    here, there = spaces
    with NetkitPair.create(netns=here, peer_netns=there) as pair, load(VERDICTS) as obj:
        link = pair.attach(obj.programs["pass"], "primary")
        with pair.watch() as watch:
            delete(pair, there)
            start = time.monotonic()
            told = [str(change) for change in watch.events(timeout=20) if change.kind == "deleted"]
            assert time.monotonic() - start < PROMISED
        assert told == ["[primary] nk0 deleted", "[peer] nk0p deleted"]
        _wait_until_gone(here, "nk0")
        attempts: list[Callable[[], object]] = [
            lambda: pair.policy,
            lambda: pair.primary.statistics,
            lambda: pair.set_policy("blackhole"),
            lambda: pair.primary.wait_ready(20),
            lambda: pair.attach(obj.programs["pass"], "peer"),
            lambda: pair.programs("primary"),
            lambda: Monitor(pair),
            lambda: NetkitPair.open("nk0", here),
        ]
        for attempt in attempts:
            start = time.monotonic()
            with pytest.raises(OSError, match=r"nk0: No such device \(deleted, moved, or never") as caught:
                attempt()
            assert caught.value.errno == errno.ENODEV
            assert time.monotonic() - start < PROMISED
        for attempt in (pair.peer.up, pair.watch):
            with pytest.raises((OSError, ValueError), match=r"No such device \(deleted|network namespace is deleted"):
                attempt()
        with pytest.raises(OSError, match="the device is gone"):
            link.update(obj.programs["drop"])
        assert not link.is_attached
        link.close()
        pair.delete()  # is no error


def test_a_primary_that_somebody_moved_away_is_missed_at_once_and_told_where_to_look(
    spaces: tuple[NetNS, NetNS],
) -> None:
    here, there = spaces
    with NetkitPair.create(netns=here, peer_netns=there, policy="blackhole") as pair, load(VERDICTS) as obj:
        with pair.attach(obj.programs["pass"], "primary") as link, pair.watch() as watch:
            here.run(["ip", "link", "set", "nk0", "netns", "nk-test-there"], check=True)
            start = time.monotonic()
            moved = next(change for change in watch.events(timeout=20) if change.kind == "moved")
            assert (str(moved), moved.netns) == ("[primary] nk0 moved", there)
            lost = "look up device nk0: somebody moved it to another network namespace; its peer nk0p is still there"
            with pytest.raises(OSError, match=lost) as caught:
                _ = pair.policy
            assert caught.value.errno == errno.ENODEV
            with pytest.raises(OSError, match=r"set the policy of nk0: No such device \(deleted, moved"):
                pair.set_policy("forward")
            assert link.is_attached
            again = NetkitPair.open("nk0p", there)
            assert (again.policy, again.primary.netns) == ("blackhole", there)
            assert [each.link_id for each in again.programs("primary").programs] == [link.id]
            assert time.monotonic() - start < PROMISED


def _wait_until_gone(netns: NetNS, name: str) -> None:
    import socket

    end = time.monotonic() + 10
    while name in (found for _, found in netns.call(socket.if_nameindex)):
        assert time.monotonic() < end
        time.sleep(0.01)


def test_the_programs_of_a_killed_process_are_gone_and_its_pair_can_be_opened() -> None:
    with NetNS.create("nk-test-kill") as netns:
        child = (
            "import netkit_bpf as nk\n"
            "pair = nk.NetkitPair.create('nk0', netns=nk.NetNS.open('nk-test-kill'))\n"
            "monitor = nk.Monitor(pair)\n"
            "print('attached', flush=True)\n"
            "monitor.read()\n"
        )
        before = Resources.now()
        with subprocess.Popen([sys.executable, "-c", child], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "attached\n"
            assert Resources.now().bpf - before.bpf
            process.kill()
        assert before.wait_until_back() == []
        with pytest.raises(FileExistsError):
            NetkitPair.create("nk0", netns=netns)
        with Monitor(NetkitPair.open("nk0", netns)) as monitor:
            assert monitor.stats.total.lost == 0
        refused = netns.run([sys.executable, "-m", "netkit_bpf", "monitor"], capture_output=True, text=True)
        assert refused.stderr.endswith(
            "there already): the process that made it was killed: remove it with netkit-bpf reap\n"
        )
        assert [(orphan.name, orphan.pid) for orphan in reap(netns)] == [("nk0", process.pid)]


def test_a_hundred_cycles_leave_nothing(spaces: tuple[NetNS, NetNS]) -> None:
    here, there = spaces

    def cycle() -> None:
        with NetkitPair.create(netns=here, peer_netns=there) as pair, Monitor(pair, ring_size=4096) as monitor:
            monitor.read(timeout=0)

    cycle()  # what is made once is made now
    before = Resources.now()
    for _ in range(100):
        cycle()
    assert before.wait_until_back(30) == []


def test_the_leak_check_notices_a_leak(spaces: tuple[NetNS, NetNS]) -> None:
    here, there = spaces
    before = Resources.now()
    pair = NetkitPair.create(netns=here, peer_netns=there)
    monitor = Monitor(pair)
    left = before.wait_until_back(0.1)
    for kind in ("bpf_link", "bpf-map", "bpf-prog", "netkit-reader", "link ", "map ", "program "):
        assert any(kind in name for name in left), kind
    monitor.close()
    pair.delete()
    assert before.wait_until_back() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_command_removes_its_pair_when_it_is_stopped(number: signal.Signals) -> None:
    with NetNS.create() as netns:
        argv = [sys.executable, "-m", "netkit_bpf", "monitor", "--mode", "l2"]
        process = netns.popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        with process:
            assert process.stdout is not None
            assert " IP6 " in process.stdout.readline()  # it is at work
            os.kill(process.pid, number)
            _, diagnostics = process.communicate(timeout=20)
        assert process.returncode == 0
        assert "made nk0" in diagnostics
        assert " 0 lost\n" in diagnostics
        _wait_until_gone(netns, "nk0")


def test_the_command_prints_json_and_counts() -> None:
    import json

    with NetNS.create() as netns:
        argv = [sys.executable, "-m", "netkit_bpf", "monitor", "--mode", "l2", "--json", "-c", "3"]
        done = netns.run(argv, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    *events, last = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(events) == 3
    assert {event["pair_name"] for event in events} == {"nk0"}
    assert [line["type"] for line in (*events, last)] == ["event"] * 3 + ["stats"]
    assert last["primary"]["delivered"] + last["peer"]["delivered"] == 3
    for side in (last["primary"], last["peer"]):
        assert side["seen"] == side["delivered"] + side["lost"] + side["pending"]


def test_the_command_ends_quietly_when_its_reader_leaves() -> None:
    with NetNS.create() as netns:
        argv = [sys.executable, "-m", "netkit_bpf", "monitor", "--mode", "l2"]
        process = netns.popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        with process:
            assert process.stdout is not None
            assert process.stdout.readline()
            process.stdout.close()
            assert process.stderr is not None
            diagnostics = process.stderr.read()
        assert process.returncode == 0
        assert "Traceback" not in diagnostics
        assert "Exception" not in diagnostics
        _wait_until_gone(netns, "nk0")


def test_the_command_reports_a_pair_that_is_there_and_watches_it_on_demand() -> None:
    with NetNS.create() as netns, NetkitPair.create(netns=netns, mode="l2") as pair:
        command = [sys.executable, "-m", "netkit_bpf", "monitor"]
        refused = netns.run([*command], capture_output=True, text=True)
        assert refused.returncode == 1
        assert "--existing --name nk0" in refused.stderr
        assert "netkit-bpf pair delete nk0" in refused.stderr
        assert refused.stderr.count("\n") == 1
        watched = netns.run([*command, "--existing", "--duration", "0.2"], capture_output=True, text=True)
        assert watched.returncode == 0, watched.stderr
        assert pair.primary.is_up
        missing = netns.run([*command, "--existing", "--name", "nk9"], capture_output=True, text=True)
        assert missing.returncode == 1
        assert "there is no device nk9 here; without --existing one is made" in missing.stderr
        stranger = netns.run([*command, "--name", "lo"], capture_output=True, text=True)
        assert "a device named lo or lop is there already" in stranger.stderr
        assert "delete" not in stranger.stderr  # not ours to advise on


def test_the_command_says_so_when_the_disk_is_full() -> None:
    with NetNS.create() as netns, open("/dev/full", "w") as full:
        argv = [sys.executable, "-m", "netkit_bpf", "monitor", "--mode", "l2"]
        done = netns.run(argv, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
        assert done.returncode == 1
        assert "write to standard output: No space left on device" in done.stderr
        assert "Exception" not in done.stderr
        _wait_until_gone(netns, "nk0")
