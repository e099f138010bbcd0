# SPDX-License-Identifier: MIT
"""The pytest plugin: namespaces, pairs, labs and monitors as fixtures, and a check that nothing is left.

It is loaded in every run of pytest where it is installed, so it is a package of its own: it imports netkit_bpf only
when a fixture is used, and until then costs nothing and cannot fail. That holds for each pytest from 6.2 on, the first
that knows Python 3.10: this file and fixtures.py use no newer words.

    def test_the_other_end_answers(netkit_pair):
        netkit_pair.peer.netns.run(["ping", "-c1", "fd42::1"], check=True)
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from pytest_netkit_bpf.fixtures import (
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
)

__all__ = [
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
    "pytest_runtest_makereport",
    "pytest_runtest_setup",
]

_MARKER = (
    "netkit(mode='l3', min_kernel=None): the test needs netkit devices, and a kernel that is not older than"
    " min_kernel, '6.14'; mode is that of the fixtures' pairs, 'l2' or 'l3'"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option --netkit."""
    parser.getgroup("netkit", "netkit devices").addoption(
        "--netkit",
        choices=("skip", "require"),
        default="skip",
        help="what becomes of a test that needs a kernel or a privilege which is missing here: it is skipped (the"
        " default), or fails (require), for a machine that is known to have them",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line("markers", _MARKER)


@pytest.hookimpl(hookwrapper=True)  # the newer wrapper=True would break every run of a pytest before 8
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    """Remember that a test failed, whose traceback keeps what the test had."""
    outcome = yield
    if outcome.excinfo is None and outcome.get_result().failed:
        item._netkit_failed = True  # type: ignore[attr-defined] # stashes came with pytest 7


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a marked test where the kernel is too old or has no netkit devices."""
    markers = list(item.iter_markers("netkit"))
    if not markers:
        return
    from pytest_netkit_bpf import requirements

    for marker in markers:
        unknown = marker.kwargs.keys() - {"mode", "min_kernel"}
        if marker.args or unknown:
            pytest.fail("the marker netkit takes mode=... and min_kernel=... alone", pytrace=False)
    needed = [marker.kwargs["min_kernel"] for marker in markers if marker.kwargs.get("min_kernel")]
    reason = requirements.why_no_kernel(needed) or requirements.why_no_netkit()
    if reason:
        requirements.missing(item.config, reason)
