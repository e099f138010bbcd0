# SPDX-License-Identifier: MIT
"""What happens around a stream: signals, clocks that are set, forks, and being dropped."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from elsewhere import need
from native import Native
from netkit_bpf.events.event import PacketEvent
from netkit_bpf.internal.arguments import Thread
from streams import MODES, Options, account, send_tcp

# Signals.


class HandlerError(Exception):
    """What the handler raises."""


@pytest.fixture
def handlers() -> Iterator[None]:
    def interrupt(_number: int, _frame: object) -> None:
        raise HandlerError

    numbers = (signal.SIGINT, signal.SIGALRM)
    before = [signal.signal(number, interrupt) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.parametrize("thread", ["own", None])
@pytest.mark.usefixtures("handlers")
def test_200_signals_during_waits_disturb_nothing(thread: Thread | None) -> None:
    with Native(thread=thread) as native:
        interrupted = read = 0
        while interrupted < 200:
            try:
                number = signal.SIGINT if interrupted % 2 else signal.SIGALRM
                threading.Timer(0.002, os.kill, (os.getpid(), number)).start()
                send_tcp(native)
                while True:
                    read += native.stream.read(10.0) is not None
            except HandlerError:
                interrupted += 1
        while native.stream.read(0) is not None:
            read += 1
        seen, delivered, lost, pending = account(native)
        assert (delivered, lost, pending) == (seen, 0, 0)
        # A signal may come just before the packet is sent, and just when its event is handed out.
        assert 0 < seen <= 200
        assert seen - 20 <= read <= seen


# Clocks.

STEPPED = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>

long step;

/* Linked before the C library's: the wall clock as this process sees it. */
int clock_gettime(clockid_t clock, struct timespec *time)
{
	static int (*real)(clockid_t, struct timespec *);
	int result;

	if (!real)
		real = dlsym(RTLD_NEXT, "clock_gettime");
	result = real(clock, time);
	if (clock == CLOCK_REALTIME)
		time->tv_sec += step;
	return result;
}
"""
TIMED = """
import ctypes, sys, time
from native import Native
from netkit_bpf import Side
from packets import ipv6, tcp

step = ctypes.c_long.in_dll(ctypes.CDLL(None), "step") if "step" in sys.argv else None
with Native() as native:
    for seconds in (0, 3600, -7200, 0):
        if step is not None:
            step.value = seconds
        for _ in range(2):
            native.send(Side.PEER, ipv6(6, tcp()))
            now = time.time_ns()
            event = native.stream.read(10.0)
            print((now - event.timestamp_ns) / 1e9)
"""


def ages(argv: list[str], environment: dict[str, str]) -> list[float]:
    """How old events are as a process sees it, in seconds."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment}
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return [float(line) for line in done.stdout.splitlines()]


def test_events_follow_when_the_clock_is_set(tmp_path: Path) -> None:
    need("cc")
    library = tmp_path / "stepped.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-xc", "-", "-o", library], input=STEPPED, text=True, check=True)
    measured = ages([sys.executable, "-c", TIMED, "step"], {"LD_PRELOAD": str(library)})
    assert len(measured) == 8
    assert all(-0.001 < age < 5 for age in measured), measured


def test_events_have_the_right_time_in_a_time_namespace() -> None:
    unshare = ["unshare", "--time", "--monotonic", "100000", "--fork"]
    measured = ages([*unshare, sys.executable, "-c", TIMED], {})
    assert all(-0.001 < age < 5 for age in measured), measured


# Forks.

FORKED = """
import gc, os, sys, threading, time
from native import Native
from netkit_bpf import Side
from packets import ipv6, tcp

options = eval(sys.argv[1])
native, quiet = Native(**options), Native(**options)
waiting = [threading.Thread(target=native.stream.read, args=(None,), daemon=True) for _ in range(4)]
for thread in waiting:
    thread.start()
time.sleep(0.2)
for _ in range(5):
    child = os.fork()
    if child == 0:
        del native, quiet
        gc.collect()
        with Native(thread="shared") as own:  # and can have one of its own
            own.send(Side.PEER, ipv6(6, tcp()))
            assert own.stream.read(10.0) is not None
        sys.exit(0)
    assert os.waitpid(child, 0)[1] == 0
# The children let go of this one. It still wakes its thread: they had the same epoll instance.
before, sent = quiet.stream.limits()[3], 0
while options["thread"] and quiet.stream.limits()[3] == before:
    quiet.send(Side.PEER, ipv6(6, tcp()))
    sent += 1
    assert sent < 1000
    time.sleep(0.01)
native.send(Side.PEER, ipv6(6, tcp()), count=5)
for thread in waiting:
    thread.join()
assert native.stream.read(10.0) is not None
assert native.stream.stats()[1] == (5, 5, 0, 0)
print("done")
"""


@pytest.mark.parametrize("options", MODES.values(), ids=MODES)
def test_a_forked_child_leaves_its_parents_stream_alone(options: Options) -> None:
    """Also where threads of the parent wait, hold locks, and are not there in the child."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    argv = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKED, repr(options)]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


@pytest.mark.filterwarnings("ignore:BPFObject monitor.*was never closed:ResourceWarning")
@pytest.mark.parametrize("options", MODES.values(), ids=MODES)
def test_a_stream_can_be_dropped_anywhere(options: Options) -> None:
    def drop() -> Callable[[], object]:
        native = Native(**options)
        send_tcp(native, 100)
        native.stream.read(10.0)
        events = native.stream.events(None)
        next(events)
        return functools.partial(next, events)

    for _ in range(20):
        assert isinstance(drop()(), PacketEvent)
