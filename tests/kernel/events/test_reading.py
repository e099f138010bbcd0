"""Waiting and being woken: signals, other threads, the end of the interpreter."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from elsewhere import needs_tcx
from held import held_elsewhere
from in_child import in_child
from netkit_bpf import Monitor, NetkitPair, NetNS
from pytest_netkit_bpf.leaks import Resources
from veth import quiet_pair, veth_pair

pytestmark = needs_tcx

# What is promised is 200 ms; an emulated machine is some 20 times slower at the rest of what is timed here.
PROMISED = 0.2 if not Path("/sys/firmware/qemu_fw_cfg").exists() else 1.0
CYCLES = int(os.environ.get("NETKIT_BPF_CYCLES", "300"))


# Each gives None when there is no event.
WAITS: dict[str, Callable[[Monitor], object]] = {
    "read": lambda monitor: monitor.read(),
    "iterate": lambda monitor: next(iter(monitor), None),
    "iterate with time-out": lambda monitor: next(monitor.events(60.0), None),
    "read a batch": lambda monitor: monitor.read_batch() or None,
    "iterate over batches": lambda monitor: next(monitor.batches(), None),
    "iterate over batches with time-out": lambda monitor: next(monitor.batches(60.0), None),
}


@pytest.fixture
def pair() -> Iterator[NetkitPair]:
    with quiet_pair() as made:
        yield made


@pytest.fixture
def monitor(pair: NetkitPair) -> Iterator[Monitor]:
    with Monitor(pair) as made:
        yield made


class _Later:
    """Calls a function in another thread after a moment, and tells how long ago that was."""

    def __init__(self, function: object, delay: float = 0.3) -> None:
        assert callable(function)
        self._function = function
        self._thread = threading.Timer(delay, self._run)
        self._thread.start()

    def _run(self) -> None:
        self.at = time.monotonic()
        self._function()

    def elapsed(self) -> float:
        now = time.monotonic()
        self._thread.join()
        return now - self.at


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C as at a terminal: a process that a shell starts in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("wait", WAITS)
@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_interrupts_a_blocked_read(monitor: Monitor, wait: str) -> None:
    later = _Later(lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        _wait(monitor, wait)
    assert later.elapsed() < PROMISED
    assert monitor.read(timeout=0) is None  # and it goes on


@pytest.mark.parametrize("wait", WAITS)
def test_close_from_another_thread_wakes_a_blocked_read(monitor: Monitor, wait: str) -> None:
    later = _Later(monitor.close)
    assert _wait(monitor, wait) is None
    assert later.elapsed() < PROMISED
    assert monitor.closed


def _wait(monitor: Monitor, wait: str) -> object:
    return WAITS[wait](monitor)


def test_eight_blocked_readers_are_all_woken_by_close(monitor: Monitor) -> None:
    results: list[object] = []
    threads = [threading.Thread(target=lambda: results.append(monitor.read())) for _ in range(8)]
    for thread in threads:
        thread.start()
    monitor.close()
    for thread in threads:
        thread.join(10)
    assert results == [None] * 8


def test_other_threads_run_while_a_read_waits(monitor: Monitor) -> None:
    reader = threading.Thread(target=monitor.read)
    reader.start()
    start = time.perf_counter()
    total = sum(range(1_000_000))
    alone = time.perf_counter() - start
    assert total
    assert alone < 5
    monitor.close()
    reader.join(10)
    assert not reader.is_alive()


@pytest.mark.parametrize("timeout", [0, 0.05, 0.3])
def test_a_time_out_is_kept(monitor: Monitor, timeout: float) -> None:
    start = time.monotonic()
    assert monitor.read(timeout) is None
    assert timeout <= time.monotonic() - start < timeout + PROMISED
    assert list(monitor.events(timeout)) == []
    assert len(monitor.read_batch(timeout=timeout)) == 0
    assert list(monitor.batches(timeout)) == []


@pytest.mark.parametrize("timeout", [-1, -0.001, float("nan")])
def test_an_absurd_time_out_is_refused(monitor: Monitor, timeout: float) -> None:
    with pytest.raises(ValueError, match="timeout must be"):
        monitor.read(timeout)
    with pytest.raises(ValueError, match="timeout must be"):
        monitor.events(timeout)
    with pytest.raises(ValueError, match="timeout must be"):
        monitor.read_batch(timeout=timeout)
    with pytest.raises(ValueError, match="timeout must be"):
        monitor.batches(timeout)


def test_a_time_out_longer_than_any_clock_is_for_ever(monitor: Monitor) -> None:
    later = _Later(monitor.close)
    assert monitor.read(1e300) is None
    assert later.elapsed() < PROMISED


def test_a_closed_monitor_says_so(monitor: Monitor) -> None:
    ended = monitor.events()
    monitor.close()
    monitor.close()
    assert repr(monitor) == "<Monitor ve0 (primary, peer) closed>"
    assert next(ended, None) is None
    for use in (monitor.read, monitor.events, monitor.read_batch, monitor.batches, monitor.__iter__, monitor.__aiter__):
        with pytest.raises(ValueError, match="the monitor is closed"):
            use()
    assert monitor.stats.total == (0, 0, 0, 0)


def test_a_monitor_that_is_dropped_closes_itself(pair: NetkitPair) -> None:
    before = Resources.now()
    for _ in range(5):
        with pytest.warns(ResourceWarning, match="Monitor of ve0, made at .*, was never closed"):
            Monitor(pair)
    assert before.wait_until_back() == []


def test_an_iterator_that_is_kept_holds_nothing_after_close(pair: NetkitPair) -> None:
    before = Resources.now()
    monitor = Monitor(pair)
    events = monitor.events()
    monitor.close()
    assert before.wait_until_back() == []
    assert list(events) == []


EXITS = {
    "a live monitor": "",
    "a blocked daemon thread": "threading.Thread(target=monitor.read, daemon=True).start(); time.sleep(0.2)",
    "a blocked iteration": "threading.Thread(target=list, args=(monitor,), daemon=True).start(); time.sleep(0.2)",
    "a blocked thread": "threading.Thread(target=monitor.read).start(); threading.Timer(0.2, monitor.close).start()",
    "waits that nobody wakes": (
        "monitor._closer.atexit = False\n"
        "for _ in range(3): threading.Thread(target=list, args=(monitor,), daemon=True).start()\n"
        "time.sleep(0.1)"
    ),
    "an exception": "raise SystemExit(0)",
    "a reference cycle": "monitor.me = monitor; del monitor",
}


@pytest.mark.parametrize("what", EXITS)
def test_the_interpreter_exits_with(what: str, pair: NetkitPair) -> None:
    """Neither hanging nor aborting."""
    arguments = f"{pair.primary.ifindex}, 've0', nk.NetNS.current()"
    program = (
        "import threading, time, netkit_bpf as nk\n"
        f"device = nk.Device({arguments})\n"
        "monitor = nk.Monitor(nk.NetkitPair(device, device, owned=False))\n"
        f"{EXITS[what]}\n"
    )
    netns = pair.primary.netns
    done = netns.run([sys.executable, "-c", program], timeout=60, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_forked_child_neither_uses_the_monitor_nor_harms_it(monitor: Monitor) -> None:
    assert monitor._pairs is not None

    def use_it() -> str:
        signal.alarm(5)  # which ends a child that waits for the lock
        uses = (monitor.read, monitor.events, lambda: monitor.stats, lambda: monitor.observers, lambda: monitor.origins)
        for use in uses:
            with pytest.raises(ValueError, match="belongs to the process that made it"):
                use()
        monitor.close()
        return repr(monitor)

    with held_elsewhere(monitor._pairs._lock):
        assert in_child(use_it) == "<Monitor of another process>"
    assert not monitor.closed
    assert monitor.read(timeout=0) is None


def test_signal_handlers_run_while_a_read_waits(monitor: Monitor) -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, frame: seen.append(number))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
        assert monitor.read(1.0) is None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert len(seen) >= 5


def test_many_cycles_leave_nothing() -> None:
    with NetNS.create() as here, NetNS.create() as there:

        def cycle() -> None:
            with veth_pair(here, there) as pair, Monitor(pair, ring_size=4096) as monitor:
                monitor.read(timeout=0)

        cycle()  # what is made once is made now
        before = Resources.now()
        for _ in range(CYCLES):
            cycle()
        assert before.wait_until_back(30) == []


def test_the_leak_check_notices_a_leak(pair: NetkitPair) -> None:
    before = Resources.now()
    monitor = Monitor(pair)
    left = before.wait_until_back(0.1)
    for kind in ("bpf_link", "bpf-map", "bpf-prog", "eventfd", "netkit-reader", "link ", "map ", "program "):
        assert any(kind in name for name in left), kind
    monitor.close()
    assert before.wait_until_back() == []
