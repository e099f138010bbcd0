"""What all tests share."""

from __future__ import annotations

import signal
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

import private
from elsewhere import OnOtherKernels
from pytest_netkit_bpf.leaks import Resources

KERNEL, NETKIT = (Path(__file__).parent / name for name in ("kernel", "netkit"))


def pytest_sessionstart() -> None:
    """Take Ctrl-C, which processes in the background of a shell are born to ignore."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say of all tests in tests/netkit that they need it; the plugin says why it is missing."""
    for item in items:
        if NETKIT in item.path.parents:
            item.add_marker("netkit")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Tests that make devices, names and pins get namespaces of their own, however they are run.

    Those that start virtual machines stay in the machine's network, from which they get the kernels.
    """
    if any({KERNEL, NETKIT} & {*item.path.parents} for item in session.items):
        private.enter()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With --netkit=require nothing at all may be skipped but tests that are about other kernels."""
    report = yield
    about_others = call.excinfo is not None and call.excinfo.errisinstance(OnOtherKernels)
    if report.skipped and not about_others and item.config.getoption("netkit") == "require":
        report.outcome = "failed"
        report.longrepr = f"skipped, though --netkit=require says that nothing is missing here: {report.longrepr}"
    return report


@pytest.fixture(autouse=True)
def nothing_is_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each test there is no descriptor, thread, process, device, mount, name or BPF object more than before.

    The plugin looks at what is this package's own; here it is everything that this process has, whoever made it.
    Set up first and so finished last: fixtures of the test itself are gone by then.
    """
    before = Resources.now()
    yield
    left = before.wait_until_back()
    assert not left, f"left behind by {request.node.name}: {left}"
