"""What all tests share."""

from __future__ import annotations

import gc
import signal
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

import private
from elsewhere import OnOtherKernels, need
from pytest_netkit_bpf.leaks import Resources

KERNEL, NETKIT = (Path(__file__).parent / name for name in ("kernel", "netkit"))


def pytest_sessionstart() -> None:
    """Take Ctrl-C, which processes in the background of a shell are born to ignore."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def signal_handlers_stay() -> Iterator[None]:
    """A command that runs in the test's process takes signals, for good."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        if signal.getsignal(number) is not handler:
            signal.signal(number, handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say of all tests in tests/netkit that they need it; the plugin says why it is missing."""
    for item in items:
        if NETKIT in item.path.parents:
            item.add_marker("netkit")


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark of tests/support/elsewhere.py known."""
    config.addinivalue_line("markers", "needs(feature): the test is about kernels that have it")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what is about other kernels, before anything is made for it."""
    for mark in item.iter_markers("needs"):
        need(*mark.args)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Tests that make devices, names and pins get namespaces of their own, however they are run.

    Those that start virtual machines stay in the machine's network, from which they get the kernels.
    """
    if any({KERNEL, NETKIT} & {*item.path.parents} for item in session.items):
        private.enter()
    gc.freeze()  # what is imported stays: a collection, of which tests ask hundreds, need not look through it


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
