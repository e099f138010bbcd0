"""The pytest plugin for those who lack privilege: it says what is missing, and is light."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from elsewhere import needs_x86_64
from netkit_bpf.vm.missing import tool
from pytest_netkit_bpf.names import names, prefix
from pytest_netkit_bpf.requirements import why_no_kernel, why_no_vm

pytest_plugins = ["pytester"]


def test_loading_the_plugin_loads_nothing_of_the_package(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_nothing():
            assert "pytest_netkit_bpf" in sys.modules
            assert [name for name in sys.modules if name.startswith("netkit_bpf")] == []
        """
    )
    assert pytester.runpytest_subprocess("--netkit=require").ret == 0


def test_what_is_missing_is_a_skip_with_a_reason(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        def test_namespace(netns): ...
        def test_pair(netkit_pair): ...
        def test_monitor(netkit_monitor): ...
        @pytest.mark.netkit
        def test_marked(): ...
        """
    )
    done = pytester.runpytest("-rs")
    done.assert_outcomes(skipped=4)
    done.stdout.fnmatch_lines(["SKIPPED*create network namespace: Operation not permitted (needs CAP_SYS_ADMIN)"])


def test_what_is_missing_is_a_failure_where_it_is_required(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        def test_namespace(netns): ...
        @pytest.mark.netkit
        def test_marked(): ...
        """
    )
    done = pytester.runpytest("--netkit=require", "-rs")
    done.assert_outcomes(errors=2)
    done.stdout.fnmatch_lines(["--netkit=require, but create network namespace: Operation not permitted*"])


def test_a_kernel_that_is_too_old_is_a_skip_with_a_reason(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.netkit(min_kernel="99.1")
        def test_new(): ...
        """
    )
    done = pytester.runpytest("-rs")
    done.assert_outcomes(skipped=1)
    done.stdout.fnmatch_lines(["SKIPPED*this needs Linux 99.1, and this kernel is *"])
    pytester.runpytest("--netkit=require").assert_outcomes(errors=1)


@pytest.mark.parametrize(
    "marker", ["netkit('l2')", "netkit(kernel='6.14')", "netkit(min_kernel='6')", "netkit(min_kernel=6.14)"]
)
def test_a_marker_that_says_nothing_sensible_is_an_error(pytester: pytest.Pytester, marker: str) -> None:
    pytester.makepyfile(f"import pytest\n@pytest.mark.{marker}\ndef test_it(): ...\n")
    done = pytester.runpytest()
    done.assert_outcomes(errors=1)
    done.stdout.re_match_lines([r"the marker netkit takes only mode=.*|min_kernel must be written as '6\.14'.*"])


@pytest.mark.parametrize(
    ("needed", "running", "missing"),
    [
        ("6.14", "6.12.107+deb13-amd64", True),
        ("6.12.4", "6.12.3-1", True),
        ("6.12.4", "6.12-rc1", True),
        ("6.12.4", "6.12.4", False),
        ("6.7", "6.12.107+deb13-amd64", False),
        ("6.14", "7.2", False),
    ],
)
def test_releases_are_compared_as_numbers(needed: str, running: str, missing: bool) -> None:
    assert bool(why_no_kernel([needed], running)) is missing


def test_names_fit_and_differ_from_those_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw12")
    monkeypatch.setattr(os, "getpid", lambda: 4194304)  # the largest there is
    name = names()
    given = {name() for _ in range(46655)}
    assert len(given) == 46655
    assert max(map(len, given)) == 14  # and a "p" for the peer
    assert all(each.startswith(prefix()) for each in given)
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw13")
    assert names()() not in given
    monkeypatch.setattr(os, "getpid", lambda: 4194303)
    assert names()() not in given


def test_workers_beside_each_other_get_different_names(pytester: pytest.Pytester) -> None:
    pytest.importorskip("xdist")
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("number", range(6))
        def test_it(netkit_name, netkit_leak_check, number):
            with open("names", "a") as file:
                print(netkit_name(), file=file)
        """
    )
    pytester.runpytest_subprocess("-n2", "--netkit=require").assert_outcomes(passed=6)
    given = (pytester.path / "names").read_text().split()
    assert len(set(given)) == 6
    assert len({name.split("-")[1] for name in given}) == 2  # process ids


def test_the_plugin_uses_no_word_that_an_older_pytest_lacks() -> None:
    """Every run of pytest loads it, where it is installed: also of 6.2, the first that knows Python 3.10."""
    as_old = """if True:
        import pytest
        words = {"hookwrapper", "optionalhook", "tryfirst", "trylast"}
        newer = pytest.hookimpl
        def hookimpl(function=None, **given):
            assert given.keys() <= words, given
            return newer(function, **given)
        pytest.hookimpl = hookimpl
        for name in ("StashKey", "Stash", "Config", "Parser", "PytestPluginManager", "CallInfo", "TestReport"):
            delattr(pytest, name)
        import pytest_netkit_bpf
        assert pytest_netkit_bpf.pytest_runtest_makereport.pytest_impl["hookwrapper"]
    """
    subprocess.run([sys.executable, "-W", "error", "-c", as_old], check=True)


def test_the_plugin_can_be_switched_off() -> None:
    argv = [sys.executable, "-m", "pytest", "-p", "no:netkit-bpf", "--help"]
    assert "--netkit=" not in subprocess.run(argv, capture_output=True, text=True, check=True, cwd="/").stdout


@needs_x86_64
def test_where_there_is_no_virtual_machine_that_is_said(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("netkit_bpf.vm.missing._PROGRAMS", {"qemu-system-x86_64": lambda: tool("qemu-system-x86_64")})
    monkeypatch.setattr("netkit_bpf.vm.missing.PACKAGES", {"qemu-system-x86_64": "a-package"})
    monkeypatch.setattr("netkit_bpf.vm.missing.shutil.which", lambda *_, **__: None)
    why_no_vm.cache_clear()
    pytester.makepyfile("import pytest\n@pytest.mark.netkit\ndef test_it(): ...\n")
    done = pytester.runpytest_inprocess("--netkit=auto", "-rs")
    done.assert_outcomes(skipped=1)
    missing = "qemu-system-x86_64 is missing: apt-get install a-package"
    done.stdout.fnmatch_lines([f"SKIPPED*Operation not permitted*; and no virtual machine: {missing}"])
    done = pytester.runpytest_inprocess("--netkit=vm")
    done.assert_outcomes(errors=1)
    done.stdout.fnmatch_lines([f"--netkit=vm, but {missing}"])
    why_no_vm.cache_clear()
