"""What a trace log meets: names and texts made to deceive, other namespaces, odd mount points."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import netkit_bpf as nk
from netkit_bpf.bpf.tracing import tracefs as instance
from tracing import LINE, OURS, instances, mounted_tracefs, printing, run

COMM = Path("/proc/thread-self/comm")


@pytest.fixture
def tracefs(tmp_path: Path) -> Iterator[Path]:
    with mounted_tracefs(tmp_path) as place:
        yield place


@pytest.fixture
def obj() -> Iterator[nk.BPFObject]:
    with printing() as loaded:
        yield loaded


def test_a_text_that_looks_like_two_entries_is_one_line(tracefs: Path, obj: nk.BPFObject) -> None:
    with nk.trace_log(prefix=f"{OURS}:") as log:
        run(obj, "prints_what_looks_like_more")
        run(obj, "prints")
        forged, honest = log.events(timeout=0)
    assert forged.text.startswith(f"{OURS}: one\n          root-1 ")
    assert forged.text.endswith(f"bpf_trace_printk: {OURS}: forged")
    assert honest.text == LINE


@pytest.mark.parametrize("name", [b"two\nlines", b"x-1 [000] d", b"\xff\xfe", b"a\n         b-1"])
def test_a_task_may_have_any_name(tracefs: Path, obj: nk.BPFObject, name: bytes) -> None:
    before = COMM.read_bytes()
    with nk.trace_log(prefix=f"{OURS}:") as log:
        COMM.write_bytes(name)
        try:
            run(obj, "prints")
            assert log.read(timeout=10.0) is not None
            assert log.read(timeout=0.01) is None  # the kernel learns a task's name when it next goes to sleep
            run(obj, "prints")
            line = log.read(timeout=10.0)
        finally:
            COMM.write_bytes(before.rstrip(b"\n"))
    assert line is not None
    assert line.task == name.decode(errors="replace")
    assert line.text == LINE


def test_times_are_unix_times_in_a_time_namespace_too(tracefs: Path) -> None:
    child = f"""
import time, sys
sys.path[:] = {sys.path!r}
import netkit_bpf as nk
from tracing import OURS, printing, run
with printing() as obj, nk.trace_log(prefix=OURS + ":") as log:
    before = time.time_ns()
    run(obj, "prints")
    line = log.read(timeout=10.0)
    print(before - 1000 <= line.timestamp_ns <= time.time_ns(), line.timestamp_ns - before)
"""
    argv = ["unshare", "--time", "--monotonic", "86400", "--fork", sys.executable, "-c", child]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("True")


def test_a_mount_point_may_have_any_name(tmp_path: Path) -> None:
    place = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff two\nlines \\ \xc3\xa9\x0c\x1e\xe2\x80\xa8#"))
    place.mkdir()
    outside = tmp_path / "outside"
    outside.mkdir()
    child = "import netkit_bpf as nk\nwith nk.trace_log() as log: print(log._instance._directory.parents[1].exists())"
    script = 'umount -a -t tracefs 2>/dev/null; mount -t tracefs tracefs "$2" && exec "$0" -c "$1"'
    argv = ["unshare", "--mount", "sh", "-c", script, sys.executable, child, os.fspath(place)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.stdout == "True\n", done.stderr


def test_a_locked_kernel_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Locked down for confidentiality it mounts tracefs, and has nothing in it: an empty tmpfs is as good."""
    lockdown = tmp_path / "lockdown"
    lockdown.write_text("none integrity [confidentiality]\n")
    monkeypatch.setattr(instance, "_LOCKDOWN", lockdown)
    monkeypatch.setattr(instance, "_tracefs", lambda: tmp_path)
    with pytest.raises(PermissionError, match="locked down for confidentiality"):
        nk.trace_log()
    lockdown.write_text("none [integrity] confidentiality\n")
    with pytest.raises(FileNotFoundError, match="CONFIG_BPF_EVENTS or without instances, or the kernel is locked"):
        nk.trace_log()


def test_a_forked_child_can_neither_use_it_nor_harm_it(tracefs: Path, obj: nk.BPFObject) -> None:
    with nk.trace_log(prefix=f"{OURS}:") as log:
        child = os.fork()
        if child == 0:
            refused = 0
            for use in (log.read, log.events, log.fileno, lambda: next(iter(log))):
                try:
                    use()
                except ValueError as error:
                    refused += "not to its forked child" in str(error)
            log.close()
            os._exit(refused)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 4
        run(obj, "prints")
        assert len(list(log.events(timeout=0))) == 1


def test_a_failure_at_any_step_leaves_no_instance(tracefs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C can come anywhere: here, at each of the steps that open a file of the instance."""
    steps = 0
    written = instance._write
    limit = 0

    def interrupt(path: Path, text: str) -> None:
        nonlocal steps
        steps += 1
        if steps == limit:
            raise KeyboardInterrupt
        written(path, text)

    monkeypatch.setattr(instance, "_write", interrupt)
    while True:
        limit += 1
        steps = 0
        try:
            nk.trace_log().close()
        except KeyboardInterrupt:
            assert instances(tracefs, os.getpid()) == []
            continue
        break
    assert limit > 10


def test_a_flood_of_other_lines_does_not_keep_a_reader(tracefs: Path, obj: nk.BPFObject) -> None:
    with nk.trace_log(prefix="no such line") as log:
        run(obj, "prints", repeat=20_000)
        start = time.monotonic()
        assert log.read(timeout=0) is None
        assert time.monotonic() - start < 20
