"""bpf_printk() in a program, read by the log of the package."""

from __future__ import annotations

import asyncio
import math
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import netkit_bpf as nk
from tracing import FRAME, LINE, OTHER, OURS, hide_others, instances, mounted_tracefs, printing, run, texts

FIRST_PID_NAMESPACE = 0xEFFFFFFC  # PROC_PID_INIT_INO, include/linux/proc_ns.h


@pytest.fixture
def tracefs(tmp_path: Path) -> Iterator[Path]:
    with mounted_tracefs(tmp_path) as place:
        yield place


@pytest.fixture
def obj() -> Iterator[nk.BPFObject]:
    with printing() as loaded:
        yield loaded


def test_a_line_arrives_with_its_task_and_time(tracefs: Path, obj: nk.BPFObject) -> None:
    with nk.trace_log() as log:
        hide_others(tracefs)
        obj.programs["prints"].test_run(FRAME)
        assert log.read(timeout=10.0) is not None
        assert log.read(timeout=0.01) is None  # the kernel learns a task's name when it next goes to sleep
        before = time.time_ns()
        obj.programs["prints"].test_run(FRAME)
        line = log.read(timeout=10.0)
        after = time.time_ns()
        assert line is not None
        assert line.text == LINE
        if Path("/proc/self/ns/pid").stat().st_ino == FIRST_PID_NAMESPACE:
            assert line.pid == threading.get_native_id()
        else:
            assert line.pid > 0  # by which number a container's task goes outside, nobody inside can tell
        assert line.task == Path("/proc/thread-self/comm").read_text().strip()
        assert line.cpu in os.sched_getaffinity(0)
        assert before - 1000 <= line.timestamp_ns <= after  # the kernel's microseconds are cut
        assert log.read(timeout=0) is None
        assert log.lost == 0


def test_a_prefix_tells_ones_own_lines_apart(tracefs: Path, obj: nk.BPFObject) -> None:
    with nk.trace_log(prefix=f"{OURS}:") as log, nk.trace_log() as everything:
        hide_others(tracefs)
        for name in ("prints", "prints_another", "prints"):
            obj.programs[name].test_run(FRAME)
        assert [line.text for line in log.events(timeout=0)] == [LINE] * 2
        assert [line.text for line in everything.events(timeout=0)] == [LINE, OTHER, LINE]
        obj.programs["prints"].test_run(FRAME)
        assert len(list(log.events(timeout=0))) == 1  # an iteration that ended can be begun anew


def test_what_was_overwritten_is_counted(tracefs: Path, obj: nk.BPFObject) -> None:
    count = 60_000
    cpus = os.sched_getaffinity(0)
    with nk.trace_log() as log:
        hide_others(tracefs)
        os.sched_setaffinity(0, {min(cpus)})  # each CPU has a buffer of its own, and two may hold them all
        try:
            obj.programs["prints"].test_run(FRAME, repeat=count)
        finally:
            os.sched_setaffinity(0, cpus)
        read = len(list(log.events(timeout=0)))
        assert 0 < read < count
        assert read + log.lost == count


def test_other_readers_of_the_trace_pipe_lose_nothing(tracefs: Path, obj: nk.BPFObject) -> None:
    """What the log has read stays where they find it: in the file `trace`, which tells what the pipe still has to give.

    The pipe itself is not read here, for that takes the lines of others away. Somebody who does may be faster than this
    test, so it prints until a line is seen.
    """
    cpus = os.sched_getaffinity(0)
    deadline = time.monotonic() + 30
    os.sched_setaffinity(0, {min(cpus)})
    try:
        with nk.trace_log(prefix=f"{OURS}:") as log:
            while True:
                obj.programs["prints"].test_run(FRAME)
                assert log.read(timeout=10.0) is not None
                if LINE in (tracefs / f"per_cpu/cpu{min(cpus)}/trace").read_text(errors="replace"):
                    break
                assert time.monotonic() < deadline, "what a log reads is taken from other readers"
    finally:
        os.sched_setaffinity(0, cpus)


def test_close_wakes_every_blocked_read(tracefs: Path) -> None:
    log = nk.trace_log(prefix=OURS)
    found: list[nk.TraceLine | None] = []
    threads = [threading.Thread(target=lambda: found.append(log.read())) for _ in range(3)]
    for thread in threads:
        thread.start()
    while len(log._users) < 3:
        time.sleep(0.001)
    log.close()
    log.close()
    for thread in threads:
        thread.join()
    assert found == [None] * 3
    assert log.closed
    assert repr(log) == "<TraceLog closed>"
    for use in (log.read, log.events, log.fileno, log.__enter__, lambda: next(iter(log))):
        with pytest.raises(ValueError, match="the trace log is closed"):
            use()


@pytest.mark.parametrize("reading", [True, False])
def test_a_signal_handler_may_close_the_log_that_is_read(tracefs: Path, reading: bool) -> None:
    """At any point: in the wait, and while a line is taken."""
    log = nk.trace_log(prefix=OURS)
    take = log._take

    def close_while_taking(end: float) -> nk.TraceLine | None:
        with log._turn:
            signal.raise_signal(signal.SIGUSR1)
        return take(end)

    before = signal.signal(signal.SIGUSR1, lambda *_: log.close())
    try:
        if reading:
            timer = threading.Timer(0.1, os.kill, [os.getpid(), signal.SIGUSR1])
            timer.start()
            assert log.read(timeout=60) is None
            timer.join()
        else:
            log._take = close_while_taking  # type: ignore[method-assign]
            assert list(log.events(timeout=60)) == []
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert log.closed


def test_a_signal_handler_may_read_the_log_that_is_read(tracefs: Path, obj: nk.BPFObject) -> None:
    found: list[nk.TraceLine | None] = []
    with nk.trace_log(prefix=f"{OURS}:") as log:
        before = signal.signal(signal.SIGUSR1, lambda *_: found.append(log.read(timeout=10)))
        try:
            with log._turn:
                run(obj, "prints")
                signal.raise_signal(signal.SIGUSR1)
        finally:
            signal.signal(signal.SIGUSR1, before)
    assert [line and line.text for line in found] == [LINE]


def test_readers_share_the_lines(tracefs: Path, obj: nk.BPFObject) -> None:
    """None is torn and none comes twice: an entry is read in two parts, by one reader at a time."""
    count = 6000
    lines: list[str] = []
    with nk.trace_log(prefix=f"{OURS}:") as log:
        threads = [threading.Thread(target=lambda: lines.extend(texts(log.events(timeout=3.0)))) for _ in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(count // 1000):
            run(obj, "prints_numbers", repeat=1000)
        for thread in threads:
            thread.join()
        assert log.lost == 0
    assert sorted(lines) == sorted(f"{OURS}: {number}" for number in range(count))


def test_a_task_reads_beside_others(tracefs: Path, obj: nk.BPFObject) -> None:
    async def read(log: nk.TraceLog, count: int) -> list[str]:
        return [line.text async for line in log.events(timeout=20.0, count=count)]

    async def main(log: nk.TraceLog) -> list[list[str]]:
        readers = [asyncio.create_task(read(log, 2)) for _ in range(2)]
        while len(log._users) < 2:
            await asyncio.sleep(0.001)
        run(obj, "prints_numbers", repeat=4)
        return await asyncio.gather(*readers)

    with nk.trace_log(prefix=f"{OURS}:") as log:
        found = asyncio.run(main(log))
        assert [len(each) for each in found] == [2, 2]
        assert sorted(text for each in found for text in each) == [f"{OURS}: {number}" for number in range(4)]


def test_close_ends_a_task_that_waits(tracefs: Path) -> None:
    async def main(log: nk.TraceLog) -> list[nk.TraceLine]:
        async def read() -> list[nk.TraceLine]:
            return [line async for line in log]

        reader = asyncio.create_task(read())
        while not log._users:
            await asyncio.sleep(0.001)
        log.close()
        return await reader

    assert asyncio.run(main(nk.trace_log(prefix=OURS))) == []


def test_events_end_by_count_and_by_duration(tracefs: Path, obj: nk.BPFObject) -> None:
    with nk.trace_log(prefix=f"{OURS}:") as log:
        run(obj, "prints_numbers", repeat=5)
        assert texts(log.events(count=2)) == [f"{OURS}: 0", f"{OURS}: 1"]
        assert texts(log.events(count=0)) == []
        events = log.events(duration=0.2)
        start = time.monotonic()
        assert texts(events) == [f"{OURS}: 2", f"{OURS}: 3", f"{OURS}: 4"]
        assert time.monotonic() - start < 10
        run(obj, "prints_numbers")
        assert list(events) == []  # one that has ended stays ended
        assert len(list(log.events(timeout=0))) == 1
        with pytest.raises(ValueError, match="count must be"):
            log.events(count=-1)


@pytest.mark.parametrize("timeout", [math.inf, 3e6, 1e300])
def test_a_timeout_may_be_as_long_as_one_likes(tracefs: Path, obj: nk.BPFObject, timeout: float) -> None:
    with nk.trace_log(prefix=f"{OURS}:") as log:
        timer = threading.Timer(0.05, run, [obj, "prints"])
        timer.start()
        assert log.read(timeout=timeout) is not None
        timer.join()


def test_its_descriptor_is_readable_while_there_is_a_line(tracefs: Path, obj: nk.BPFObject) -> None:
    with nk.trace_log(prefix=f"{OURS}:") as log:
        assert log.read(timeout=0) is None
        assert select.select([log], [], [], 0) == ([], [], [])
        run(obj, "prints")
        assert select.select([log], [], [], 10) == ([log], [], [])
        assert log.read(timeout=0) is not None
        assert log.read(timeout=0) is None
        assert select.select([log], [], [], 0) == ([], [], [])


def test_ctrl_c_ends_the_wait(tracefs: Path) -> None:
    with nk.trace_log(prefix=OURS) as log:
        timer = threading.Timer(0.1, os.kill, [os.getpid(), signal.SIGINT])
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            log.read()
        timer.join()
        assert log.read(timeout=0) is None


def test_a_log_that_is_let_go_is_closed(tracefs: Path, obj: nk.BPFObject) -> None:
    with pytest.warns(ResourceWarning, match="TraceLog, made at .*, was never closed"):
        for _ in nk.trace_log(prefix=OURS).events(timeout=0):
            pass


def test_what_a_killed_process_left_is_swept_by_the_next(tracefs: Path) -> None:
    child = "import netkit_bpf as nk, sys\nlog = nk.trace_log()\nprint(flush=True)\nlog.read()"
    with subprocess.Popen([sys.executable, "-c", child], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with nk.trace_log():
            assert len(instances(tracefs, process.pid)) == 1  # one that is used is left
        process.kill()
    nk.trace_log().close()
    assert instances(tracefs, process.pid) == []


@pytest.mark.parametrize("name", ["debug", "999999999-pidns1-0", "999999999-0", "999999999-pidns{here}-0-mine"])
def test_instances_of_others_are_left_alone(tracefs: Path, name: str) -> None:
    """A person's, and that of a process in another PID namespace, whose id means nothing here."""
    here = Path("/proc/self/ns/pid").stat().st_ino
    other = tracefs / "instances" / f"netkit-bpf-{name.format(here=here)}"
    other.mkdir()
    try:
        nk.trace_log().close()
        assert other.exists()
    finally:
        other.rmdir()


def test_without_tracefs_the_error_says_how_to_mount_it() -> None:
    child = "import netkit_bpf as nk\ntry: nk.trace_log()\nexcept FileNotFoundError as error: print(error)"
    script = 'umount -a -t tracefs 2>/dev/null; exec "$0" -c "$1"'
    argv = ["unshare", "--mount", "sh", "-c", script, sys.executable, child]
    done = subprocess.run(argv, check=True, capture_output=True, text=True)
    assert "tracefs is not mounted: mount -t tracefs tracefs /sys/kernel/tracing" in done.stdout
