"""Tests that run elsewhere and are reported here: --netkit=vm, with a plain process in the guest's place."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest

pytest_plugins = ["pytester"]

# In both processes: what a marked test needs is there, and the guest is a child.
CONFTEST = """
import subprocess
import sys
from pathlib import Path

import pytest

from netkit_bpf import vm
from pytest_netkit_bpf import requirements

requirements.why_not_here = requirements.why_no_vm = lambda *_: None
vm.cached = lambda: [vm.Kernel(name, name, Path(), None) for name in ("6.12", "7.2")]
vm.start = lambda command, popen, kernel, **_: subprocess.Popen([*command, kernel], **popen)

def is_guest(config):
    return config.getoption("netkit") == "guest"

@pytest.fixture(autouse=True)
def right_place(request):
    assert is_guest(request.config) is (request.node.get_closest_marker("netkit") is not None)
"""


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)  # it hides output that is held back
    pytester.makeconftest(CONFTEST)
    ignored = "ignore:Module already:pytest.PytestAssertRewriteWarning"  # of the editable installation
    pytester.makeini(f"[pytest]\naddopts = --netkit=vm\nfilterwarnings =\n default\n {ignored}\n")
    return pytester


def test_each_outcome_is_reported_as_it_would_be_here(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import warnings
        import pytest

        pytestmark = pytest.mark.netkit

        def test_passes(record_property):
            record_property("answer", 42)

        def test_fails():
            print("printed")
            assert {"a": 1} == {"a": 2}

        def test_skips(): pytest.skip("because")

        @pytest.mark.xfail(reason="known")
        def test_xfails(): assert False

        @pytest.mark.xfail(strict=True)
        def test_xpasses(): pass

        def test_warns(): warnings.warn("careful", DeprecationWarning)

        @pytest.fixture
        def broken(): raise LookupError("no such thing")

        def test_errs(broken): pass
        """
    )
    done = project.runpytest_subprocess("--junitxml=report.xml", "-rA")
    done.assert_outcomes(passed=2, failed=2, skipped=1, xfailed=1, errors=1, warnings=1)
    done.stdout.fnmatch_lines(
        [
            "*E*AssertionError: assert {'a': 1} == {'a': 2}*",
            "*Captured stdout call*",
            "printed",
            "*DeprecationWarning: careful",
            "SKIPPED [[]1] test_each*.py:*: because",
        ]
    )
    cases = {case.get("name"): case for case in ElementTree.parse(project.path / "report.xml").iter("testcase")}
    assert [name for name, case in cases.items() if case.find("failure") is not None] == ["test_fails", "test_xpasses"]
    found = cases["test_passes"].find("properties/property")
    assert found is not None
    assert found.get("value") == "42"


def test_fixtures_of_wider_scopes_are_set_up_once_and_those_here_and_there_do_not_meet(
    project: pytest.Pytester,
) -> None:
    source = """
        import os
        import pytest

        @pytest.fixture(scope="session")
        def whole(): yield os.getpid()

        @pytest.fixture(scope="module", autouse=True)
        def part():
            yield
            print("module torn down in", os.getpid())

        @pytest.mark.netkit
        def test_first(whole): pass
        def test_here(whole): pass
        @pytest.mark.netkit
        def test_last(whole): pass
        """
    one, two = project.mkdir("one"), project.mkdir("two")
    (one / "test_one.py").write_text(source.replace("\n        ", "\n"))
    (two / "test_two.py").write_text(source.replace("\n        ", "\n"))
    done = project.runpytest_subprocess("--import-mode=importlib", "-s", "--setup-show")
    done.assert_outcomes(passed=6)
    torn = [line for line in done.outlines + done.errlines if "module torn down in" in line]
    assert len(torn) == 4, done.outlines


def test_a_guest_that_dies_fails_one_test_and_a_new_one_goes_on(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import os, sys
        import pytest

        pytestmark = pytest.mark.netkit

        def test_before(): pass
        def test_dies():
            os.write(2, b"last words")
            os.kill(os.getpid(), 9)
        def test_after(): pass
        """
    )
    done = project.runpytest_subprocess("-s")
    done.assert_outcomes(passed=2, failed=1)
    done.stdout.fnmatch_lines(
        ["*test_dies*", "--netkit=vm, Linux 7.2: the guest's pytest ended with status -9", "last words"]
    )


def test_a_guest_that_never_begins_is_asked_for_once(project: pytest.Pytester) -> None:
    project.makeconftest(CONFTEST + "if sys.orig_argv[-1] == '7.2': raise LookupError('only here')\n")
    project.makepyfile(
        "import pytest\n@pytest.mark.netkit\n@pytest.mark.parametrize('n', range(3))\ndef test_it(n): ..."
    )
    done = project.runpytest_subprocess()
    done.assert_outcomes(errors=3)
    done.stdout.fnmatch_lines(["--netkit=vm, Linux 7.2: the guest's pytest ended with status *", "*only here*"])


@pytest.mark.parametrize(
    ("options", "outcomes"),
    [
        (["-x"], {"passed": 1, "failed": 1}),
        (["-k", "passes"], {"passed": 1, "deselected": 3}),
        (["-n2"], {"passed": 3, "failed": 1}),
        (["-n2", "--dist=loadgroup"], {"passed": 3, "failed": 1}),
        (["--lf"], {"failed": 1}),
    ],
)
def test_options_that_select_and_distribute_do_so(
    project: pytest.Pytester, options: list[str], outcomes: dict[str, int]
) -> None:
    project.makepyfile(
        """
        import pytest

        @pytest.mark.netkit
        def test_passes(): pass
        @pytest.mark.netkit
        @pytest.mark.xdist_group("one")
        def test_fails(): assert False
        @pytest.mark.netkit
        def test_other(): pass
        def test_here(): pass
        """
    )
    if "--lf" in options:
        project.runpytest_subprocess()
    project.runpytest_subprocess(*options).assert_outcomes(**outcomes)


def test_each_kernel_gets_each_test_and_one_guest(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import sys
        import pytest

        @pytest.mark.netkit
        def test_first(netkit_kernel): assert sys.orig_argv[-1] == netkit_kernel
        @pytest.mark.netkit
        def test_second(): pass
        def test_here(): pass
        """
    )
    done = project.runpytest_subprocess("--netkit-kernel=all", "-v")
    done.assert_outcomes(passed=5)
    done.stdout.fnmatch_lines(["*test_first[[]6.12]*", "*test_second[[]6.12]*", "*test_first[[]7.2]*"])


def test_a_test_may_end_the_run(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import pytest

        @pytest.mark.netkit
        def test_ends(): pytest.exit("enough")
        def test_never(): pass
        """
    )
    done = project.runpytest_subprocess()
    done.stdout.fnmatch_lines(["*Exit: enough*"])
    assert done.ret == pytest.ExitCode.INTERRUPTED


def test_time_limits_are_the_guests(project: pytest.Pytester) -> None:
    project.makeconftest(CONFTEST + "import time\nif sys.orig_argv[-1] == '7.2': time.sleep(2)  # as a boot does\n")
    project.makepyfile(
        """
        import time
        import pytest

        pytestmark = [pytest.mark.netkit, pytest.mark.timeout(1)]

        def test_first(): pass
        def test_hangs(): time.sleep(1000)
        def test_last(): pass
        """
    )
    done = project.runpytest_subprocess()
    done.assert_outcomes(passed=2, failed=1)
    done.stdout.fnmatch_lines(["*Timeout (>1.0s)*"])


def test_auto_goes_elsewhere_only_if_it_must(project: pytest.Pytester) -> None:
    project.makeconftest(CONFTEST.partition("@pytest.fixture")[0])
    source = """
        import sys
        import pytest

        @pytest.mark.netkit
        def test_marked(request): assert request.config.getoption("netkit") == "MODE"
        def test_here(request): assert request.config.getoption("netkit") == "auto"
        """
    project.makepyfile(source.replace("MODE", "auto"))
    project.runpytest_subprocess("--netkit=auto").assert_outcomes(passed=2)
    project.makepyfile(source.replace("MODE", "guest"))
    lacks = "requirements.why_not_here = lambda item: None if is_guest(item.config) else 'too old'\n"
    project.makeconftest(CONFTEST.partition("@pytest.fixture")[0] + lacks)
    project.runpytest_subprocess("--netkit=auto").assert_outcomes(passed=2)
