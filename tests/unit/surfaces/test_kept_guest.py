"""Guests that outlive a run of pytest: --netkit-keep, with a plain process in the guest's place."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from netkit_bpf.vm import kept

pytest_plugins = ["pytester"]

# As test_relay.py has it; the guest is a shell that runs pytest for each round.
CONFTEST = """
import os
from pathlib import Path

from netkit_bpf import vm
from netkit_bpf.vm import kept
from pytest_netkit_bpf import requirements

ROUNDS = 'while read -r line && [ "$line" = run ]; do "$@"; echo "{\\\\"ended\\\\": $?}"; done'

requirements.why_not_here = requirements.why_no_vm = lambda *_: None
vm.cached = lambda: [vm.Kernel(name, name, Path(), None) for name in ("6.12", "7.2")]
kept.line = lambda command, kernel, console: ["sh", "-c", ROUNDS, kernel, *command[3:]]
kept.IDLE = float(os.environ.get("IDLE", 600))
"""
TEST = """
import os
import sys
from pathlib import Path

import pytest

@pytest.mark.netkit
def test_it():
    sys.stderr.write(f"{os.getpid()} began\\n")
    with Path("guests").open("a") as file:
        file.write(f"{os.getppid()}\\n")
    if Path("wait").exists():
        os.mkfifo("began")
        Path("began").write_text("")
        Path("go").read_text()
"""


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[pytest.Pytester]:
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # where guests are kept
    pytester.makeconftest(CONFTEST)
    ignored = "ignore:Module already:pytest.PytestAssertRewriteWarning"  # of the editable installation
    pytester.makeini(f"[pytest]\naddopts = --netkit=vm --netkit-keep\nfilterwarnings =\n default\n {ignored}\n")
    pytester.makepyfile(test_it=TEST)
    yield pytester
    command("--end")


def guests(project: pytest.Pytester) -> list[int]:
    """The guest of each test that ran."""
    return [int(line) for line in (project.path / "guests").read_text().splitlines()]


def command(*options: str) -> list[str]:
    words = [sys.executable, "-m", "netkit_bpf", "vm", "kept", *options]
    return subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()


def begin(project: pytest.Pytester) -> subprocess.Popen[bytes]:
    """A run that is in the middle of its test."""
    (project.path / "wait").touch()
    os.mkfifo(project.path / "go")
    run = subprocess.Popen([sys.executable, "-m", "pytest"], cwd=project.path, stdout=subprocess.DEVNULL)
    while not (project.path / "began").exists():
        assert run.poll() is None
        time.sleep(0.01)
    (project.path / "began").read_text()
    (project.path / "wait").unlink()
    return run


def wait_for_the_end_of(guest: int) -> None:
    end = time.monotonic() + 20
    while Path(f"/proc/{guest}/stat").exists():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_the_next_run_has_the_same_guest_and_hears_nothing_of_the_one_before(project: pytest.Pytester) -> None:
    for _ in range(2):
        done = project.runpytest_subprocess("-s")
        done.assert_outcomes(passed=1)
        assert sum("began" in line for line in done.errlines) == 1
    done.stdout.fnmatch_lines(["netkit: *, in a guest that is kept for the next run"])
    assert len(set(guests(project))) == 1
    assert command() == [f"Linux 7.2 for pytest in {project.path}: waiting for the next run"]
    assert command("--end") == [f"Linux 7.2 for pytest in {project.path}: ended"]
    wait_for_the_end_of(guests(project)[0])
    assert command() == []


def test_what_was_edited_in_between_counts_and_a_failed_test_ends_no_guest(project: pytest.Pytester) -> None:
    project.runpytest_subprocess().assert_outcomes(passed=1)
    project.makepyfile(test_it=f"{TEST}    assert False\n", test_more=TEST)
    project.runpytest_subprocess().assert_outcomes(passed=1, failed=1)
    assert len(guests(project)) == 3
    assert len(set(guests(project))) == 1


def test_another_setup_has_another_guest(project: pytest.Pytester) -> None:
    project.runpytest_subprocess()
    project.runpytest_subprocess("--netkit-kernel=6.12")
    project.runpytest_subprocess("-n1").assert_outcomes(passed=1)
    assert len(set(guests(project))) == 3
    assert len(command()) == 3


def test_two_runs_at_once_do_not_share_it(project: pytest.Pytester) -> None:
    first = begin(project)
    assert command("--end") == [f"Linux 7.2 for pytest in {project.path}: in use"]
    project.makeconftest(
        f"{CONFTEST}\nimport subprocess\n"
        "vm.start = lambda command, popen, **_: subprocess.Popen(['sh', '-c', '\"$@\"; exit', '', *command], **popen)\n"
    )
    project.runpytest_subprocess().assert_outcomes(passed=1)
    (project.path / "go").write_text("")
    assert first.wait(20) == 0
    assert len(set(guests(project))) == 2
    project.runpytest_subprocess().assert_outcomes(passed=1)
    assert guests(project)[2] == guests(project)[0]


def test_a_run_that_does_not_read_keeps_nobody_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pytest that was stopped by Ctrl-Z, for one."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(kept, "line", lambda *_: ["sh", "-c", "read -r line; exec yes"])
    first = kept.begin(["it"], kernel="7.2", what="for a test")
    assert first
    try:
        time.sleep(0.5)  # its guest says more than there is room for
        assert command() == ["Linux 7.2 for a test: in use"]
        assert kept.begin(["it"], kernel="7.2", what="for a test") is None
        assert first.answers.read(1 << 20) == b"y\n" * (1 << 19)
    finally:
        first.close(keep=False)
    end = time.monotonic() + 20
    while [*tmp_path.iterdir()]:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_killed_run_takes_its_guest_along_and_the_next_one_boots(project: pytest.Pytester) -> None:
    run = begin(project)
    run.kill()
    run.wait()
    wait_for_the_end_of(guests(project)[0])
    os.close(os.open(project.path / "go", os.O_WRONLY | os.O_NONBLOCK))  # its test, which a real guest takes along
    project.runpytest_subprocess().assert_outcomes(passed=1)
    assert len(set(guests(project))) == 2


def test_a_guest_that_dies_is_replaced(project: pytest.Pytester) -> None:
    project.makepyfile(
        test_it=TEST,
        test_last=f"{TEST}    [os.kill(each, 9) for each in (os.getppid(), os.getpid())]\n",
        test_more=TEST,
    )
    done = project.runpytest_subprocess()
    done.assert_outcomes(passed=2, failed=1)
    done.stdout.fnmatch_lines(["--netkit=vm, Linux 7.2: the guest's pytest ended with status -9"])
    assert len(set(guests(project))) == 2


def test_it_ends_when_nobody_asks_for_it(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IDLE", "0.1")
    project.runpytest_subprocess().assert_outcomes(passed=1)
    wait_for_the_end_of(guests(project)[0])
    assert command() == []
    end = time.monotonic() + 20
    while [*Path(os.environ["TMPDIR"]).glob("netkit-bpf-*")]:  # not the directory either
        assert time.monotonic() < end
        time.sleep(0.01)
    assert command() == []
    assert not [*Path(os.environ["TMPDIR"]).glob("netkit-bpf-*")]


def test_whoever_waits_while_the_last_guest_ends_has_a_new_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def opened() -> int:
        return [os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")].count(str(base))

    def inode() -> int:
        with kept._locked_base() as mine:
            return mine.stat().st_ino

    with ThreadPoolExecutor(1) as pool:
        with kept._locked_base() as base:
            found = pool.submit(inode)
            while opened() < 2 and not found.done():
                time.sleep(0.01)
            base.rmdir()
        assert found.result(20) == base.stat().st_ino
