"""A process is known again, and known to have ended, whatever else had its id."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from netkit_bpf.devices.owner import Owner

PRINT_OWNER = "from netkit_bpf.devices.owner import Owner; print(Owner.current().alias, flush=True); "


@contextmanager
def child(then: str = "input()") -> Iterator[tuple[subprocess.Popen[str], Owner]]:
    """A process that says who it is and goes on with `then`."""
    argv = [sys.executable, "-c", PRINT_OWNER + then]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        owner = Owner.of(process.stdout.readline().rstrip())
        assert owner is not None
        try:
            yield process, owner
        finally:
            process.kill()


def test_this_process_has_not_ended() -> None:
    mine = Owner.current()
    assert mine.pid == os.getpid()
    assert not mine.has_ended()
    assert Owner.of(mine.alias) == mine
    assert len(mine.alias) <= 255  # IFALIASZ is 256


def test_it_is_the_same_in_every_thread_and_another_in_a_child() -> None:
    found: list[Owner] = []
    thread = threading.Thread(target=lambda: found.append(Owner.current()))
    thread.start()
    thread.join()
    assert found == [Owner.current()]
    with child() as (_, other):
        assert other != Owner.current()
        assert (other.pidns, other.timens) == (Owner.current().pidns, Owner.current().timens)


def test_a_killed_process_has_ended_before_anybody_waits_for_it() -> None:
    with child() as (process, owner):
        assert not owner.has_ended()
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # a zombie from now on
        assert owner.has_ended()
        process.wait()
        assert owner.has_ended()


def test_a_process_whose_first_thread_ended_has_not_ended() -> None:
    leave = "import ctypes, threading, time; threading.Thread(target=time.sleep, args=[60]).start(); "
    leave += "ctypes.CDLL(None).pthread_exit(None)"
    with child(leave) as (process, owner):
        while "State:\tZ" not in Path(f"/proc/{process.pid}/status").read_text():
            assert process.poll() is None
        assert not owner.has_ended()
        process.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert owner.has_ended()


def test_an_id_that_was_given_again_is_not_the_process() -> None:
    mine = Owner.current()
    assert mine._replace(start=mine.start - 1).has_ended()


def test_a_process_that_cannot_be_judged_is_left_alone() -> None:
    with child() as (process, owner):
        process.kill()
        process.wait()
        assert owner.has_ended()
        assert not owner._replace(pidns=owner.pidns + 1).has_ended()
        assert not owner._replace(timens=owner.timens + 1).has_ended()


@pytest.mark.parametrize(
    "alias",
    [
        "",
        "uplink to Berlin",
        "netkit-bpf",
        "netkit-bpf pid=1 start=2 pidns=3",
        "netkit-bpf pid=1 start=2 pidns=3 timens=4",
        "netkit-bpf pid=0 start=2 pidns=3 timens=4 claim=-",
        "netkit-bpf pid=-1 start=2 pidns=3 timens=4 claim=-",
        "netkit-bpf pid=9999999999 start=2 pidns=3 timens=4 claim=-",
        "netkit-bpf pid=1 start=2 pidns=3 timens=4 claim=0123456789abcdef",
        "netkit-bpf pid=1 start=2 pidns=3 timens=4 claim=- and more",
        "my netkit-bpf pid=1 start=2 pidns=3 timens=4 claim=-",
    ],
)
def test_an_alias_of_somebody_else_names_no_process(alias: str) -> None:
    assert Owner.of(alias) is None
