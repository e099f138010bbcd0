"""pytest --netkit=vm with real guests. tests/unit/surfaces/test_relay.py has the cases that need none."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

import pytest

from netkit_bpf import CaptureFile, vm

pytestmark = pytest.mark.skipif(bool(vm.why_not()), reason=vm.why_not() or "")
slow = pytest.mark.skipif(os.environ.get("NETKIT_BPF_VM_SLOW") != "1", reason="slow: set NETKIT_BPF_VM_SLOW=1")

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
    assert False, "{what} " + boot
"""


@pytest.mark.timeout(600)
def test_a_kept_guest_sees_files_that_changed_and_nothing_of_the_run_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # where the guest is kept
    options = ["-p", "no:cacheprovider", "--netkit=vm", "--netkit-keep", "--tb=line"]
    boots: list[str] = []
    try:
        for what in ("first", "second"):
            (tmp_path / "test_it.py").write_text(KEPT.format(what=what))
            words = [sys.executable, "-m", "pytest", *options]
            done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
            assert "1 failed" in done.stdout, done.stdout + done.stderr
            # In CI pytest prints it once more, in the summary.
            boots += set(re.findall(rf"AssertionError: {what} ([0-9a-f-]{{36}})\b", done.stdout))
        assert len(boots) == 2, done.stdout
        assert len(set(boots)) == 1
    finally:
        words = [sys.executable, "-m", "netkit_bpf", "vm", "kept", "--end"]
        ended = subprocess.run(words, capture_output=True, text=True, check=True)
    assert ended.stdout == f"Linux 7.2 for pytest in {tmp_path}: ended\n"


# Each test tells, as properties in the report, its guest, the fixture of each scope and the labs that are shared.
SCOPES = """
import itertools
import socket
from pathlib import Path

import pytest

@pytest.fixture(scope="session")
def numbers():
    return itertools.count()

def numbered(scope):
    return pytest.fixture(scope=scope, name=f"a_{scope}")(lambda numbers: next(numbers))

a_function, a_class, a_module, a_session = map(numbered, ["function", "class", "module", "session"])

@pytest.fixture(scope="module")
def module_lab(module_netkit_lab_factory):
    return module_netkit_lab_factory(nodes=2)

@pytest.fixture(scope="session")
def session_lab(session_netkit_lab_factory):
    return session_netkit_lab_factory(nodes=2)

@pytest.fixture
def told(record_property, a_function, a_class, a_module, a_package, a_session, module_lab, session_lab):
    for name, value in locals().items():
        if name.startswith("a_"):
            record_property(name, value)
    record_property("guest", Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    for name, lab in (("module_lab", module_lab), ("session_lab", session_lab)):
        record_property(name, lab.n1.netns.cookie)
        with lab.n1.socket(type=socket.SOCK_DGRAM) as one, lab.n2.socket(type=socket.SOCK_DGRAM) as two:
            two.bind(("0.0.0.0", 5000))
            two.settimeout(20)
            one.sendto(b"hello", (lab.n2.ipv4_address, 5000))
            assert two.recv(100) == b"hello"
"""
OF_A_PACKAGE = """
import pytest

@pytest.fixture(scope="package")
def a_package(numbers):
    return next(numbers)
"""
TOLD = """
import pytest

pytestmark = [pytest.mark.netkit, pytest.mark.usefixtures("told")]

class TestTwice:
    def test_one(self): ...
    def test_two(self): ...

def test_alone(request): assert request.path.name != "test_c.py"
def test_last(): ...
"""


def results(directory: Path, *options: str) -> dict[str, dict[str, str]]:
    """Run the tests; the properties of each, by module, class and name, and what became of it as "is"."""
    (directory / "report.xml").unlink(missing_ok=True)
    words = [sys.executable, "-m", "pytest", "--netkit=vm", "--junitxml=report.xml", *options]
    done = subprocess.run(words, cwd=directory, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    found = {}
    for case in ElementTree.parse(directory / "report.xml").iter("testcase"):
        properties = {each.get("name", ""): each.get("value", "") for each in case.iter("property")}
        outcome = [child.tag for child in case if child.tag not in ("properties", "system-out")]
        found[f"{case.get('classname')}.{case.get('name')}"] = {**properties, "is": " ".join(outcome) or "passed"}
    return found


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twelve tests in three modules of two packages, of which one fails."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # where guests are kept
    (tmp_path / "conftest.py").write_text(SCOPES)
    for package, modules in {"first": ("test_a", "test_b"), "second": ("test_c",)}.items():
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
        (tmp_path / package / "conftest.py").write_text(OF_A_PACKAGE)
        for name in modules:
            (tmp_path / package / f"{name}.py").write_text(TOLD)
    return tmp_path


def values(told: dict[str, dict[str, str]], name: str) -> list[int]:
    """How many tests had each value of a property, in the order of the tests."""
    return [*Counter(properties[name] for properties in told.values()).values()]


@pytest.mark.timeout(600)
def test_fixtures_of_each_scope_and_what_selects_tests_work_in_a_guest(project: Path) -> None:
    try:
        # The last test of a module that is not deselected comes behind the one that fails.
        told = results(project, "--netkit-keep", "-x", "-k", "not last or test_c")
        failed = "second.test_c.test_alone"
        assert {name: properties["is"] for name, properties in told.items() if properties["is"] != "passed"} == {
            failed: "failure"
        }
        assert [*told][-1] == failed
        assert values(told, "a_function") == [1] * 9
        assert values(told, "a_class") == [2, 1] * 3
        assert values(told, "a_module") == values(told, "module_lab") == [3, 3, 3]
        assert values(told, "a_package") == [6, 3]
        assert values(told, "a_session") == values(told, "session_lab") == values(told, "guest") == [9]
        again = results(project, "--netkit-keep", "--lf")
        assert [*again] == [failed]
        assert again[failed]["guest"] == told[failed]["guest"]
    finally:
        words = [sys.executable, "-m", "netkit_bpf", "vm", "kept", "--end"]
        subprocess.run(words, capture_output=True, check=True)


@slow
@pytest.mark.timeout(600)
def test_each_worker_has_a_guest_and_a_session_of_its_own(project: Path) -> None:
    told = results(project, "-n2", "-k", "alone", "-p", "no:cacheprovider")
    assert len(told) == 3
    assert [name for name, properties in told.items() if properties["is"] != "passed"] == ["second.test_c.test_alone"]
    assert len({properties["guest"] for properties in told.values()}) == 2
    assert len({(properties["guest"], properties["session_lab"]) for properties in told.values()}) == 2
