# SPDX-License-Identifier: MIT
"""The pytest plugin: namespaces, pairs, labs and monitors as fixtures, and a check that nothing is left behind.

Where it is installed, every run of pytest loads it. So it is a separate package that imports netkit_bpf only when a
fixture is used; until then it costs nothing and cannot fail. It works with pytest 6.2, the first for Python 3.10, and
later: this file and fixtures.py use nothing newer.

    def test_the_other_end_answers(netkit_pair):
        netkit_pair.peer.netns.run(["ping", "-c1", "fd42::1"], check=True)
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import nullcontext
from typing import Any

import pytest

from pytest_netkit_bpf.fixtures import (
    bpf_object,
    bpf_program,
    module_netkit_lab_factory,
    netkit_capture,
    netkit_lab,
    netkit_lab_factory,
    netkit_leak_check,
    netkit_monitor,
    netkit_monitor_factory,
    netkit_name,
    netkit_pair,
    netkit_pair_factory,
    netns,
    netns_factory,
    session_netkit_lab_factory,
)

__all__ = [
    "bpf_object",
    "bpf_program",
    "module_netkit_lab_factory",
    "netkit_capture",
    "netkit_lab",
    "netkit_lab_factory",
    "netkit_leak_check",
    "netkit_monitor",
    "netkit_monitor_factory",
    "netkit_name",
    "netkit_pair",
    "netkit_pair_factory",
    "netns",
    "netns_factory",
    "pytest_addoption",
    "pytest_configure",
    "pytest_fixture_setup",
    "pytest_runtest_makereport",
    "pytest_runtest_setup",
    "session_netkit_lab_factory",
]

_MARKERS = (
    "netkit(mode='l3', min_kernel=None): the test needs netkit devices, and a kernel that is not older than"
    " min_kernel, '6.14'; mode is that of the fixtures' pairs, 'l2' or 'l3'",
    "netkit_lab(nodes=3, shape='star'): what the fixture netkit_lab makes; the arguments are those of Lab",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the plugin."""
    group = parser.getgroup("netkit", "netkit devices")
    group.addoption(
        "--netkit",
        choices=("skip", "require", "auto", "vm"),
        default="skip",
        help="what to do with a test whose kernel or privilege is missing here: skip it (the default); fail it"
        " (require), for a machine that is known to have them; run it in a virtual machine if one can be had, else skip"
        " it (auto). vm: run all tests that need netkit in a virtual machine, wherever they could run",
    )
    group.addoption(
        "--netkit-kernel",
        metavar="K",
        default="7.2",
        help="the kernel of virtual machines: 7.2 (the default) or 6.12, the path of a boot image, several with commas"
        " between them, or all: each test runs on each",
    )
    group.addoption(
        "--netkit-keep",
        action="store_true",
        help="keep the virtual machine for the next run with this option: for ten minutes, or until"
        " netkit-bpf vm kept --end",
    )
    group.addoption(
        "--netkit-captures",
        metavar="DIR",
        help="where pcapng files go with what the fixture netkit_capture recorded in tests that failed; by default the"
        " directory of --junitxml, if that is given",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, and what runs tests elsewhere if that is asked for."""
    for marker in _MARKERS:
        config.addinivalue_line("markers", marker)
    kernels, mode = config.getoption("netkit_kernel"), config.getoption("netkit")
    if mode in ("auto", "vm", "guest") and (kernels == "all" or "," in kernels):
        from pytest_netkit_bpf import many_kernels

        config.pluginmanager.register(many_kernels, "netkit-kernels")
    if mode in ("auto", "vm"):
        from pytest_netkit_bpf.relay import Relay

        config.pluginmanager.register(Relay(config), "netkit-relay")


@pytest.hookimpl(hookwrapper=True)
def pytest_fixture_setup(fixturedef: Any) -> Generator[None, Any, None]:
    """What a fixture of a wider scope makes is not left behind by the test that is the first to ask for it."""
    leaks = sys.modules.get("pytest_netkit_bpf.leaks")
    with nullcontext() if leaks is None or fixturedef.scope == "function" else leaks.lasting():
        yield


@pytest.hookimpl(hookwrapper=True)  # the newer wrapper=True would break every run of a pytest before 8
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    """Remember that a test failed, as its traceback keeps its objects alive, and show its packets."""
    outcome = yield
    if outcome.excinfo is None and outcome.get_result().failed:
        item._netkit_failed = True  # type: ignore[attr-defined] # stashes came with pytest 7
        if hasattr(item, "_netkit_captures"):
            from pytest_netkit_bpf import captures

            captures.tell(item, outcome.get_result())


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a marked test where the kernel is too old or has no netkit devices."""
    item._netkit_failed = False  # type: ignore[attr-defined] # it may run again
    markers = list(item.iter_markers("netkit"))
    if not markers:
        return
    from pytest_netkit_bpf import requirements

    for marker in markers:
        unknown = marker.kwargs.keys() - {"mode", "min_kernel"}
        if marker.args or unknown:
            pytest.fail("the marker netkit takes only mode=... and min_kernel=...", pytrace=False)
    if reason := requirements.why_not_here(item):
        requirements.missing(item.config, reason)
