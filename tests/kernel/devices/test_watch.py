"""Changes of a pair's devices, whoever makes them, and waiting until a device is ready."""

from __future__ import annotations

import asyncio
import errno
import os
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from elsewhere import needs_live_rename
from netkit_bpf import Device, DeviceChange, NetkitPair, NetNS, Watch
from unprivileged import unprivileged
from veth import veth_pair

PATIENCE = 20.0  # seconds: far longer than anything takes


@pytest.fixture
def spaces() -> Iterator[tuple[NetNS, NetNS]]:
    with NetNS.create() as here, NetNS.create() as there:
        yield here, there


@pytest.fixture
def pair(spaces: tuple[NetNS, NetNS]) -> Iterator[NetkitPair]:
    with veth_pair(*spaces) as made:
        yield made


def of_kind(watch: Iterable[DeviceChange], kind: str) -> list[str]:
    """Those of one kind; a device that is deleted is set down first."""
    return [str(change) for change in watch if change.kind == kind]


def told(change: DeviceChange | None) -> tuple[str, str, str]:
    assert change is not None
    return change.side.value, change.kind.value, change.name


@needs_live_rename
def test_changes_of_both_ends_are_told_in_their_order(pair: NetkitPair) -> None:
    with pair.watch() as watch:
        assert watch.read(timeout=0) is None
        pair.primary.down()
        pair.peer.rename("other")
        pair.primary.up()
        pair.peer.set_mtu(1400)  # of no interest
        assert told(watch.read(PATIENCE)) == ("primary", "down", "ve0")
        assert told(watch.read(PATIENCE)) == ("peer", "renamed", "other")
        assert told(watch.read(PATIENCE)) == ("primary", "up", "ve0")
        assert watch.read(timeout=0) is None
        pair.delete()
        assert of_kind(watch, "deleted") == ["[primary] ve0 deleted", "[peer] other deleted"]
        assert list(watch) == []  # nothing can come any more


def test_what_happens_elsewhere_is_not_told(pair: NetkitPair) -> None:
    with NetNS.create() as third, veth_pair(third, third) as other:  # the same names, perhaps the same numbers
        with pair.watch() as watch:
            other.primary.down()
            other.delete()
            pair.peer.down()
            assert told(watch.read(PATIENCE)) == ("peer", "down", "ve1")


@needs_live_rename
def test_a_moved_end_is_followed(pair: NetkitPair, spaces: tuple[NetNS, NetNS]) -> None:
    with NetNS.create() as third:
        third.run(["ip", "link", "add", "type", "veth"], check=True)  # so that the number changes
        with pair.watch() as watch:
            pair.primary.move(third)
            assert told(watch.read(PATIENCE)) == ("primary", "down", "ve0")
            moved = watch.read(PATIENCE)
            assert told(moved) == ("primary", "moved", "ve0")
            assert moved is not None
            assert moved.netns == third
            assert moved.ifindex == pair.primary.ifindex
            pair.primary.up()
            pair.primary.rename("back")
            assert told(watch.read(PATIENCE)) == ("primary", "up", "ve0")
            assert told(watch.read(PATIENCE)) == ("primary", "renamed", "back")
            pair.primary.move(spaces[1])  # to the other end
            assert [told(watch.read(PATIENCE))[1] for _ in range(2)] == ["down", "moved"]
            pair.primary.up()
            assert told(watch.read(PATIENCE)) == ("primary", "up", "back")


@pytest.mark.parametrize("end", ["primary", "peer"])
def test_an_end_that_moved_back_before_that_was_read_is_followed(
    pair: NetkitPair, spaces: tuple[NetNS, NetNS], end: str
) -> None:
    device: Device = getattr(pair, end)
    home, name = device.netns, device.name
    with NetNS.create() as third, pair.watch() as watch:
        device.move(third)
        device.move(home)
        assert told(watch.read(PATIENCE)) == (end, "down", name)  # as the kernel sets it before it moves it
        moved = watch.read(PATIENCE)
        assert told(moved) == (end, "moved", name)
        assert moved is not None
        assert (moved.netns, moved.ifindex) == (home, device.ifindex)
        device.up()
        assert told(watch.read(PATIENCE)) == (end, "up", name)
        device.down()
        device.rename("other")
        pair.delete()
        assert of_kind(watch.events(timeout=PATIENCE), "renamed") == [f"[{end}] other renamed"]


def test_ends_that_moved_on_are_found_where_they_are(pair: NetkitPair, spaces: tuple[NetNS, NetNS]) -> None:
    with NetNS.create() as third, NetNS.create() as fourth, pair.watch() as watch:
        for device in (pair.primary, pair.peer):
            device.move(third)
            device.move(fourth)
            moved = [change for change in iter(lambda: watch.read(timeout=0), None) if change.kind == "moved"]
            assert [(change.netns, change.ifindex) for change in moved] == [(fourth, device.ifindex)]
        pair.primary.up()
        assert told(watch.read(PATIENCE)) == ("primary", "up", "ve0")


def test_an_end_moved_out_of_sight_is_told_without_its_namespace(pair: NetkitPair, tmp_path: Path) -> None:
    hidden = tmp_path / "netns"  # neither under /run/netns nor any process's
    hidden.touch()
    subprocess.run(["unshare", f"--net={hidden}", "true"], check=True)
    try:
        with pair.watch() as watch:
            with NetNS.open(hidden) as netns, netns.popen(["sleep", "60"]) as process:
                pair.peer.netns.run(["ip", "link", "set", "ve1", "netns", str(process.pid)], check=True)
                process.kill()
            assert told(watch.read(PATIENCE)) == ("peer", "down", "ve1")
            moved = watch.read(PATIENCE)
            assert told(moved) == ("peer", "moved", "ve1")
            assert moved is not None
            assert moved.netns is None
            pair.primary.down()
            assert told(watch.read(PATIENCE)) == ("primary", "down", "ve0")
            pair.delete()
            assert of_kind(watch, "deleted") == ["[primary] ve0 deleted", "[peer] ve1 deleted"]
    finally:
        subprocess.run(["umount", hidden], check=True)


@pytest.mark.parametrize("name", [None, "nk-test-watch"])
def test_the_end_of_a_namespace_is_told_and_not_delayed(spaces: tuple[NetNS, NetNS], name: str | None) -> None:
    gone = NetNS.create(name)
    with veth_pair(spaces[0], gone) as pair, pair.watch() as watch:
        start = time.monotonic()
        gone.delete()
        assert of_kind(watch, "deleted") == ["[primary] ve0 deleted", "[peer] ve1 deleted"]
        assert time.monotonic() - start < 1.0
        while "ve0" in {each for _, each in spaces[0].call(socket.if_nameindex)}:
            pass  # pytest's time-out ends it


def test_both_ends_in_a_namespace_that_ends_are_told() -> None:
    gone = NetNS.create("nk-test-watch")
    with veth_pair(gone, gone) as pair, pair.watch() as watch:
        gone.delete()
        assert of_kind(watch.events(timeout=PATIENCE), "deleted") == ["[primary] ve0 deleted", "[peer] ve1 deleted"]


@needs_live_rename
def test_a_flood_of_changes_ends_in_the_truth(pair: NetkitPair) -> None:
    with pair.watch() as watch:
        script = "".join(f"link set ve0 alias {'x' * 200}{number}\n" for number in range(5000))
        pair.primary.netns.run(["ip", "-batch", "-"], input=script, text=True, check=True)
        pair.primary.rename("after")
        assert told(watch.read(PATIENCE)) == ("primary", "renamed", "after")
        pair.delete()
        assert of_kind(watch, "deleted") == ["[primary] after deleted", "[peer] ve1 deleted"]


def test_close_wakes_every_blocked_reader(pair: NetkitPair) -> None:
    watch = pair.watch()
    read: list[object] = []
    threads = [threading.Thread(target=lambda: read.append(watch.read())) for _ in range(3)]
    for thread in threads:
        thread.start()
    while len(watch._users) < 3:
        time.sleep(0.001)
    watch.close()
    watch.close()
    for thread in threads:
        thread.join(PATIENCE)
    assert read == [None] * 3
    assert watch.closed
    assert repr(watch) == "<Watch closed>"
    for use in (watch.read, watch.events, watch.fileno, watch.__enter__, lambda: next(iter(watch))):
        with pytest.raises(ValueError, match="the watch is closed"):
            use()


def test_a_signal_handler_may_close_the_watch_that_is_read(pair: NetkitPair) -> None:
    watch = pair.watch()
    before = signal.signal(signal.SIGUSR1, lambda *_: watch.close())
    try:
        timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1))
        timer.start()
        assert list(watch) == []
        timer.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert watch.closed


def test_changes_are_awaited_and_end_with_the_pair(pair: NetkitPair) -> None:
    async def main(watch: Watch) -> tuple[list[str], list[str]]:
        first = [str(change) async for change in watch.events(timeout=PATIENCE, count=1)]
        reader = asyncio.create_task(rest(watch))
        while not watch._users:
            await asyncio.sleep(0.001)
        pair.primary.up()
        pair.delete()
        return first, await reader

    async def rest(watch: Watch) -> list[str]:
        return [str(change) async for change in watch]

    with pair.watch() as watch:
        pair.primary.down()
        first, then = asyncio.run(main(watch))
    assert first == ["[primary] ve0 down"]
    assert then[0] == "[primary] ve0 up"
    assert then[-2:] == ["[primary] ve0 deleted", "[peer] ve1 deleted"]


def test_its_descriptor_is_readable_while_there_is_a_change(pair: NetkitPair) -> None:
    """Also of a change that the kernel told with others, and once none can come any more."""
    with pair.watch() as watch:
        assert watch.read(timeout=0) is None  # what made the watch is told too: numbers of namespaces
        assert select.select([watch], [], [], 0) == ([], [], [])
        pair.primary.down()
        pair.peer.down()
        for _ in range(2):
            assert select.select([watch], [], [], PATIENCE) == ([watch], [], [])
            assert watch.read(timeout=0) is not None
        assert watch.read(timeout=0) is None
        assert select.select([watch], [], [], 0) == ([], [], [])
        pair.delete()
        assert len(list(watch.events(timeout=PATIENCE))) == 2
        assert select.select([watch], [], [], 0) == ([watch], [], [])


def test_ctrl_c_ends_a_wait(pair: NetkitPair) -> None:
    pair.peer.down()
    with pair.watch() as watch:
        for wait in (watch.read, pair.primary.wait_ready):
            timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
            timer.start()
            with pytest.raises(KeyboardInterrupt):
                wait()
            timer.join()


def test_a_forked_child_cannot_use_a_watch(pair: NetkitPair) -> None:
    with pair.watch() as watch:
        child = os.fork()
        if child == 0:
            try:
                watch.read(timeout=0)
            except ValueError:
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        pair.peer.down()
        assert told(watch.read(PATIENCE)) == ("peer", "down", "ve1")


@needs_live_rename
def test_an_end_that_is_out_of_reach_is_not_watched(pair: NetkitPair) -> None:
    with Watch(pair.primary, None) as watch:
        pair.peer.rename("other")
        pair.primary.down()
        assert told(watch.read(PATIENCE)) == ("primary", "down", "ve0")
        pair.delete()
        assert list(map(str, watch)) == ["[primary] ve0 deleted"]


def test_without_privilege_only_the_namespace_of_ones_own_is_watched(pair: NetkitPair) -> None:
    with NetNS.current() as here, veth_pair(here, here) as own:

        def watch_own() -> list[str]:
            with own.watch() as watch:
                return [str(change) for change in watch.events(timeout=0)]

        assert unprivileged(watch_own) == "[]"
        text = unprivileged(pair.watch)
        assert text.startswith("PermissionError: [Errno 1] listen to changes of devices: Operation not permitted"), text
        assert "needs CAP_NET_BROADCAST" in text


def test_what_happens_to_an_end_here_is_told_without_privilege(tmp_path: Path) -> None:
    with NetNS.current() as here, veth_pair(here, here) as own:
        ready = tmp_path / "ready"

        def watch_own() -> str:
            with own.watch() as watch:
                ready.touch()
                return str(watch.read(PATIENCE))

        def act() -> None:
            while not ready.exists():
                time.sleep(0.01)
            own.peer.down()

        acting = threading.Thread(target=act)
        acting.start()
        assert unprivileged(watch_own) == "'[peer] ve1 down'"
        acting.join()


def test_a_gone_pair_cannot_be_watched(pair: NetkitPair) -> None:
    pair.delete()
    with pytest.raises(OSError, match="watch ve0: No such device") as caught:
        pair.watch()
    assert caught.value.errno == errno.ENODEV


def test_a_device_is_ready_once_its_addresses_are(pair: NetkitPair) -> None:
    pair.primary.wait_ready(PATIENCE)
    pair.primary.add_address("fd00::1/64", nodad=False)
    with pytest.raises(
        TimeoutError, match="ve0 is not ready after 0 s: duplicate address detection of fd00::1/64 has not finished"
    ):
        pair.primary.wait_ready(0)
    pair.primary.wait_ready(PATIENCE)
    with pair.primary.netns.socket(socket.AF_INET6, socket.SOCK_DGRAM) as bound:  # EADDRNOTAVAIL while it is tentative
        bound.bind(("fd00::1", 0))


def test_a_device_is_not_ready_while_either_end_is_down(pair: NetkitPair) -> None:
    pair.peer.down()
    with pytest.raises(TimeoutError, match=r"ve0 is not ready after 0\.2 s: it has no carrier"):
        pair.primary.wait_ready(0.2)
    with pytest.raises(TimeoutError, match="ve1 is not ready after 0 s: it is down"):
        pair.peer.wait_ready(0)
    threading.Timer(0.2, pair.peer.up).start()
    pair.primary.wait_ready(PATIENCE)
    pair.peer.wait_ready(PATIENCE)


def test_a_duplicate_address_is_an_error(pair: NetkitPair) -> None:
    pair.primary.add_address("fd00::1/64")
    pair.peer.add_address("fd00::1/64", nodad=False)
    with pytest.raises(OSError, match="address fd00::1/64 of ve1: another device on the link has it") as caught:
        pair.peer.wait_ready(PATIENCE)
    assert caught.value.errno == errno.EADDRINUSE


def test_waiting_for_a_device_that_vanishes_ends_with_an_error(pair: NetkitPair) -> None:
    pair.peer.down()
    threading.Timer(0.2, pair.delete).start()
    with pytest.raises(OSError, match="look up device ve0: No such device"):
        pair.primary.wait_ready(PATIENCE)


def test_loopback_is_ready_once_it_is_up(spaces: tuple[NetNS, NetNS]) -> None:
    loopback = Device.open("lo", spaces[0])
    with pytest.raises(TimeoutError, match="lo is not ready after 0 s: it is down"):
        loopback.wait_ready(0)
    loopback.up()
    loopback.wait_ready(PATIENCE)
