"""pytest --netkit=vm with real guests. tests/unit/surfaces/test_relay.py has the cases that need none."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from netkit_bpf import CaptureFile, vm

pytestmark = pytest.mark.skipif(bool(vm.why_not()), reason=vm.why_not() or "")

TESTS = """
import os
import time

import pytest

pytestmark = pytest.mark.netkit

@pytest.fixture(scope="module")
def release():
    print("set up")
    yield os.uname().release

def test_passes(release, netkit_pair):
    assert release.startswith("7.2.")
    assert netkit_pair.mode.name == "L3"

def test_fails(release, netkit_pair, netkit_capture):
    netkit_capture(netkit_pair, filter="icmp6")
    netkit_pair.peer.netns.run(["ping", "-c1", "fd42::1"], check=True)
    print("printed")
    assert {"release": release, "answer": 42} == {"release": release, "answer": 43}

def test_skips():
    pytest.skip("because")

@pytest.mark.xfail(reason="known")
def test_xfails():
    assert False

def test_complains():
    with open("/dev/kmsg", "w") as log:
        log.write("WARNING: CPU: 0 PID: 1 at foo")

def test_dies():
    with open("/proc/sysrq-trigger", "w") as trigger:
        trigger.write("c")
    time.sleep(1000)

def test_goes_on(release):
    assert release.startswith("7.2.")

@pytest.mark.skipif(True, reason="never")
def test_never():
    ...
"""


@pytest.mark.timeout(600)
def test_marked_tests_run_in_a_guest_and_are_reported_as_if_they_ran_here(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(TESTS)
    (tmp_path / "test_here.py").write_text(
        f"import os\ndef test_here(): assert os.uname().release == {os.uname().release!r}\n"
    )
    options = ["-v", "-p", "no:cacheprovider", "--netkit=vm", "--netkit-kernel=7.2", "--junitxml=report.xml"]
    words = [sys.executable, "-m", "pytest", *options]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    outcomes = {}
    for case in ElementTree.parse(tmp_path / "report.xml").iter("testcase"):
        outcomes[case.get("name")] = [child.tag for child in case if child.tag != "properties"]
    assert outcomes == {
        "test_here": [],
        "test_passes": [],
        "test_fails": ["failure"],
        "test_skips": ["skipped"],
        "test_xfails": ["skipped"],
        "test_complains": ["error"],
        "test_dies": ["failure"],
        "test_goes_on": [],
        "test_never": ["skipped"],
    }, done.stdout
    for said in (
        "E         {'answer': 42} != {'answer': 43}",
        "Captured stdout call",
        "ICMP6, echo request",
        "the kernel complained while the test ran in Linux 7.2",
        "--netkit=vm, Linux 7.2: the guest died",
        "sysrq triggered crash",
    ):
        assert said in done.stdout, done.stdout
    # Written here, beside the report, though the guest is gone.
    with CaptureFile(tmp_path / "test_it.py-test_fails.pcapng") as file:
        assert [event.icmp_type for batch in file for event in batch] == [128, 129]


KEPT = """
import os
import subprocess
from pathlib import Path

import pytest

@pytest.mark.netkit
def test_it():
    layer = Path(__file__).with_name("written")
    assert not layer.exists() and not os.path.ismount("/run/netns/left")
    layer.touch()
    subprocess.run(["ip", "netns", "add", "left"], check=True)
    subprocess.Popen(["sleep", "1000"])
    boot = Path("/proc/sys/kernel/random/boot_id").read_text()
    {what}, boot
"""


@pytest.mark.timeout(600)
def test_a_kept_guest_sees_files_that_changed_and_nothing_of_the_run_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # where the guest is kept
    options = ["-p", "no:cacheprovider", "--netkit=vm", "--netkit-keep", "--tb=line"]
    boots: list[str] = []
    try:
        for what in ("assert 'first' == ''", "assert 'second' == ''"):
            (tmp_path / "test_it.py").write_text(KEPT.format(what=what))
            words = [sys.executable, "-m", "pytest", *options]
            done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
            assert "1 failed" in done.stdout, done.stdout + done.stderr
            # In CI pytest prints it once more, in the summary.
            boots += set(re.findall(rf"AssertionError: (\S+)\s+assert '{what.split(chr(39))[1]}'", done.stdout))
        assert len(boots) == 2, done.stdout
        assert len(set(boots)) == 1
    finally:
        words = [sys.executable, "-m", "netkit_bpf", "vm", "kept", "--end"]
        ended = subprocess.run(words, capture_output=True, text=True, check=True)
    assert ended.stdout == f"Linux 7.2 for pytest in {tmp_path}: ended\n"
