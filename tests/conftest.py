"""What all tests share."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from typing import Any

import pytest

from leaks import Resources

# Where a machine is known to have what the tests need, nothing may be skipped.
REQUIRE = os.environ.get("NETKIT_BPF_REQUIRE") == "1"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if REQUIRE and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"skipped, though NETKIT_BPF_REQUIRE=1 says that nothing is missing here: {report.longrepr}"
    return report


@pytest.fixture(autouse=True)
def nothing_is_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each test there is no descriptor, thread, device, namespace or BPF object more than before.

    Set up first and so finished last: fixtures of the test itself are gone by then.
    """
    before = Resources.now()
    yield
    left: Any = before.wait_until_back()
    assert not left, f"left behind by {request.node.name}: {left}"
