"""Namespaces: no thread is ever left in another one, no descriptor is left, and ip-netns(8) shares the named ones."""

from __future__ import annotations

import os
import pickle
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from netkit_bpf import Device, NetNS, _core
from pytest_netkit_bpf.leaks import Resources

NAME = "nk-test-shared"
THREADS, ROUNDS = 8, 25  # of five operations each: 1000


def ip(*words: str) -> str:
    return subprocess.run(["ip", *words], capture_output=True, text=True, check=True).stdout


def listed() -> list[str]:
    return [line.split()[0] for line in ip("netns", "list").splitlines()]


def own() -> str:
    """The calling thread's namespace."""
    return os.readlink("/proc/thread-self/ns/net")


def names(netns: NetNS) -> set[str]:
    return {name for _, name in netns.call(socket.if_nameindex)}


def fail() -> None:
    raise RuntimeError("from inside")


def test_a_thousand_operations_from_eight_threads_leave_every_thread_where_it_was() -> None:
    start = threading.Barrier(THREADS)

    def work(number: int) -> set[tuple[str, str]]:
        homes = {(own(), own())}
        start.wait()
        for round_ in range(ROUNDS):
            before = own()
            netns = NetNS.create(f"nk-test-{number}" if round_ % 5 == 0 else None)
            try:
                inside = netns.call(own)
                with netns.socket(socket.AF_INET6, socket.SOCK_DGRAM) as made, pytest.raises(OSError, match="assign"):
                    made.bind(("::1", 0))  # its loopback device is down, and only its
                with pytest.raises(RuntimeError, match="from inside"):
                    netns.call(fail)
                Device.open("lo", netns).up()
            finally:
                netns.delete()
            with pytest.raises(ValueError, match="this network namespace is deleted"):
                netns.call(own)
            assert inside != before
            homes.add((before, own()))
        return homes

    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(lambda _: own(), range(THREADS)))  # what is made once is made now
        before = Resources.now()
        homes = set().union(*threads.map(work, range(THREADS)))
        assert homes == {(own(), own())}
        assert Resources.now().fds == before.fds
        assert not {f"nk-test-{number}" for number in range(THREADS)} & set(listed())


def test_a_thread_that_lives_elsewhere_stays_there() -> None:
    with NetNS.create() as home, NetNS.create() as other:

        def visit() -> tuple[str, str, str]:
            before = own()
            there = other.call(own)
            Device.open("lo", other).up()
            with other.socket(socket.AF_INET, socket.SOCK_DGRAM):
                return before, there, own()

        before, there, after = home.call(visit)
        assert before == after == f"net:[{home.inode}]"
        assert there == f"net:[{other.inode}]"


def test_what_held_a_socket_of_a_closed_namespace_holds_no_descriptor() -> None:
    before = Resources.now().fds
    netns = NetNS.create()
    held = netns._netlink()  # as the traceback of an error does
    lo = Device.open("lo", netns)
    netns.delete()
    assert Resources.now().fds == before
    with pytest.raises(ValueError, match="this network namespace is deleted, or was released"):
        _core.device_get(held, (lo.ifindex, "lo"))


@pytest.fixture
def of_ip() -> Iterator[NetNS]:
    ip("netns", "add", NAME)
    try:
        yield NetNS.open(NAME)
    finally:
        if NAME in listed():
            ip("netns", "delete", NAME)


def test_a_namespace_that_ip_made_is_opened_used_and_left(of_ip: NetNS) -> None:
    with of_ip as netns:
        Device.open("lo", netns).up()
        assert "LOOPBACK,UP" in ip("-n", NAME, "link", "show", "lo")
        with netns.popen(["sleep", "60"]) as process:
            assert ip("netns", "identify", str(process.pid)).strip() == NAME
            assert ip("netns", "pids", NAME).split() == [str(process.pid)]
            process.kill()
        with pytest.raises(FileExistsError, match=f"create network namespace {NAME}: File exists"):
            NetNS.create(NAME)
    assert NAME in listed()


def test_a_namespace_that_ip_made_can_be_deleted_here_and_by_ip_meanwhile(of_ip: NetNS) -> None:
    of_ip.delete()
    assert NAME not in listed()
    ip("netns", "add", NAME)
    again = NetNS.open(NAME)
    ip("netns", "delete", NAME)
    again.delete()  # somebody was faster
    with pytest.raises(FileNotFoundError):
        NetNS.open(NAME)


def test_ip_works_in_a_namespace_that_was_made_here() -> None:
    with NetNS.create(NAME) as netns:
        assert NAME in listed()
        ip("-n", NAME, "link", "add", "ve0", "type", "veth", "peer", "name", "ve1")
        assert names(netns) == {"lo", "ve0", "ve1"}
        assert ip("netns", "exec", NAME, "readlink", "/proc/self/ns/net").strip() == f"net:[{netns.inode}]"
    assert NAME not in listed()
    assert not Path("/run/netns", NAME).exists()


def test_a_name_that_ip_took_away_is_no_trouble_at_the_end() -> None:
    with NetNS.create(NAME):
        ip("netns", "delete", NAME)
    assert NAME not in listed()


def test_a_name_lives_on_with_what_runs_inside() -> None:
    with NetNS.create(NAME) as netns, netns.popen(["sleep", "60"]) as process:
        netns.delete()
        with NetNS.open(process.pid) as inside:
            assert names(inside) == {"lo"}
        process.kill()


def test_programs_are_run_inside_as_subprocess_runs_them() -> None:
    with NetNS.create() as netns:
        done = netns.run(["cat"], input="inside", text=True, capture_output=True)
        assert (done.returncode, done.stdout, done.stderr) == (0, "inside", "")
        assert netns.run(["false"]).returncode == 1
        with pytest.raises(subprocess.CalledProcessError, match="returned non-zero exit status 1"):
            netns.run(["false"], check=True)
        with pytest.raises(subprocess.TimeoutExpired):  # which kills it: nothing is left
            netns.run(["sleep", "60"], timeout=0.1)
        for options in ({"input": b"", "stdin": 0}, {"capture_output": True, "stderr": 2}):
            with pytest.raises(ValueError, match="may not"):
                subprocess.run(["true"], check=False, **options)
            with pytest.raises(ValueError, match="may not"):
                netns.run(["true"], **options)
        with pytest.raises(FileNotFoundError):
            netns.run(["/nowhere/nothing"])
        with netns.popen(["readlink", "/proc/self/ns/net"], stdout=subprocess.PIPE, text=True) as process:
            assert process.communicate()[0].strip() == f"net:[{netns.inode}]"


@pytest.mark.parametrize("text", [True, False])
def test_a_program_that_failed_is_told_with_what_it_wrote_last_and_without_frames_of_the_package(text: bool) -> None:
    script = "seq 100; echo why >&2; exit 3"
    with NetNS.create() as netns:
        with pytest.raises(subprocess.CalledProcessError) as caught:
            netns.run(["sh", "-c", script], check=True, capture_output=True, text=text)
        lines = str(caught.value).splitlines()
        assert lines[0] == f"Command '['sh', '-c', '{script}']' returned non-zero exit status 3."
        assert lines[1:] == ["stdout: …", *map(str, range(81, 101)), "stderr:", "why"]
        assert {Path(entry.path) for entry in caught.traceback.filter(caught)} == {Path(__file__)}
        assert len(str(caught.value.stdout)) > 250
        copy = pickle.loads(pickle.dumps(caught.value))
        assert str(copy) == str(caught.value)


@pytest.fixture
def restarting() -> Iterator[None]:
    """System calls go on after SIGINT, as they do once polars or another library has put its own handler in front."""
    signal.siginterrupt(signal.SIGINT, False)
    yield
    signal.siginterrupt(signal.SIGINT, True)


@pytest.mark.usefixtures("restarting")
def test_ctrl_c_ends_the_wait_for_a_call_and_the_call_ends_by_itself() -> None:
    go_on = threading.Event()
    with NetNS.create() as netns:
        timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            netns.call(go_on.wait)
        timer.join()
        go_on.set()


def test_what_a_function_returns_or_raises_inside_comes_through() -> None:
    with NetNS.create() as netns:
        assert netns.call(lambda *words, **more: (words, more), 1, two=3) == ((1,), {"two": 3})
        with pytest.raises(KeyError, match="missing") as caught:
            netns.call({}.__getitem__, "missing")
        assert caught.value.args == ("missing",)
        with pytest.raises(SystemExit, match="7"):
            netns.call(exit, 7)


def test_an_unnamed_namespace_ends_with_its_last_user() -> None:
    netns = NetNS.create()
    kept = netns.socket(socket.AF_INET, socket.SOCK_DGRAM)
    inode = netns.inode
    netns.delete()
    with kept:  # it keeps the namespace, and stays in it
        with pytest.raises(OSError, match="unreachable"):
            kept.sendto(b"?", ("127.0.0.1", 9))
    assert not any(f"net:[{inode}]" in fd for fd in Resources.now().fds)
