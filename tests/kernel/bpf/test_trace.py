"""bpf_printk() in a program, read by the log of the package.

All programs on the machine print into one trace, in whatever namespace they run: tests look for their own lines alone.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import netkit_bpf as nk
from programs import PRINTS, build

FIRST_PID_NAMESPACE = 0xEFFFFFFC  # PROC_PID_INIT_INO, include/linux/proc_ns.h
FRAME = bytes(12) + b"\x08\x00" + bytes(46)
OURS = f"nktest {os.getpid()}"
LINE, OTHER = f"{OURS}: 60 bytes", f"{OURS} other: one\ntwo"


@pytest.fixture
def tracefs(tmp_path: Path) -> Iterator[Path]:
    """A place where tracefs is mounted; afterwards no instance of this process is left in it."""
    subprocess.run(["mount", "-t", "tracefs", "tracefs", tmp_path], check=True)
    yield tmp_path
    assert instances(tmp_path, os.getpid()) == []
    subprocess.run(["umount", tmp_path], check=True)


def instances(tracefs: Path, pid: int) -> list[Path]:
    return [*(tracefs / "instances").glob(f"netkit-bpf-{pid}-*")]


def hide_others(tracefs: Path) -> None:
    """Let the logs that are open have no lines but this process's: neither to read nor to lose."""
    for instance in instances(tracefs, os.getpid()):
        (instance / "events/bpf_trace/bpf_trace_printk/filter").write_text(f'bpf_string ~ "{OURS}*"')
        (instance / "trace").write_text("")  # empties the buffer


@pytest.fixture
def obj() -> Iterator[nk.BPFObject]:
    made = nk.BPFObject.open(build(PRINTS))
    made.variables["pid"].value = os.getpid()
    with made:
        yield made


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
    with nk.trace_log(prefix=f"{OURS}:", timeout=0) as log, nk.trace_log(timeout=0) as everything:
        hide_others(tracefs)
        for name in ("prints", "prints_another", "prints"):
            obj.programs[name].test_run(FRAME)
        assert [line.text for line in log] == [LINE] * 2
        assert [line.text for line in everything] == [LINE, OTHER, LINE]
        obj.programs["prints"].test_run(FRAME)
        assert len(list(log)) == 1  # an iteration that ended can be begun anew


def test_what_was_overwritten_is_counted(tracefs: Path, obj: nk.BPFObject) -> None:
    count = 60_000
    cpus = os.sched_getaffinity(0)
    with nk.trace_log(timeout=0) as log:
        hide_others(tracefs)
        os.sched_setaffinity(0, {min(cpus)})  # each CPU has a buffer of its own, and two may hold them all
        try:
            obj.programs["prints"].test_run(FRAME, repeat=count)
        finally:
            os.sched_setaffinity(0, cpus)
        read = len(list(log))
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


def test_close_wakes_a_blocked_read(tracefs: Path) -> None:
    log = nk.trace_log(prefix=OURS)
    found: list[nk.TraceLine | None] = [nk.TraceLine("", 0, 0, 0, "")]
    thread = threading.Thread(target=lambda: found.append(log.read()))
    thread.start()
    while not log._reading.locked():
        time.sleep(0.001)
    log.close()
    log.close()
    thread.join()
    assert found[1:] == [None]
    assert repr(log) == "<TraceLog closed>"
    for use in (log.read, log.__enter__, lambda: next(iter(log))):
        with pytest.raises(ValueError, match="the trace log is closed"):
            use()


def test_ctrl_c_ends_the_wait(tracefs: Path) -> None:
    with nk.trace_log(prefix=OURS) as log:
        timer = threading.Timer(0.1, os.kill, [os.getpid(), signal.SIGINT])
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            log.read()
        timer.join()
        assert log.read(timeout=0) is None


def test_a_log_that_is_let_go_is_closed(tracefs: Path, obj: nk.BPFObject) -> None:
    for _ in nk.trace_log(prefix=OURS, timeout=0):
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


def test_without_tracefs_the_error_says_how_to_mount_it() -> None:
    child = "import netkit_bpf as nk\ntry: nk.trace_log()\nexcept FileNotFoundError as error: print(error)"
    script = 'umount -a -t tracefs 2>/dev/null; exec "$0" -c "$1"'
    argv = ["unshare", "--mount", "sh", "-c", script, sys.executable, child]
    done = subprocess.run(argv, check=True, capture_output=True, text=True)
    assert "tracefs is not mounted: mount -t tracefs tracefs /sys/kernel/tracing" in done.stdout
