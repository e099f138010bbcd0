# SPDX-License-Identifier: MIT
"""The fixtures. Everything lives in namespaces of the test, and is gone after it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from netkit_bpf import BPFObject, Lab, Monitor, NetkitPair, NetNS, Program
    from pytest_netkit_bpf.captures import Capture

PRIMARY_ADDRESSES = ("10.42.0.1/24", "fd42::1/64")
PEER_ADDRESSES = ("10.42.0.2/24", "fd42::2/64")


@pytest.fixture
def netkit_leak_check(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail if the test leaves a namespace, a device, a BPF object or a thread of this package behind.

    All other fixtures of this plugin include it; tests without them can request it. A test that has failed already is
    not checked: its traceback keeps its objects alive. What fixtures of a wider scope make when they are set up is not
    the test's, nor are the labs of the factories of a wider scope; what a test adds to them, as a node, is.
    """
    from pytest_netkit_bpf import leaks

    with leaks.checked() as what_is_left:
        yield
        left = [] if getattr(request.node, "_netkit_failed", False) else what_is_left()
    if left:
        pytest.fail(f"left behind by {request.node.name}: {', '.join(left)}", pytrace=False)


@pytest.fixture(scope="session")
def netkit_name() -> Callable[[], str]:
    """A function that returns a new name for a device or a namespace, unique among workers and runs."""
    from pytest_netkit_bpf.names import names

    return names()


@pytest.fixture
def netns_factory(request: pytest.FixtureRequest, netkit_leak_check: None) -> Iterator[Callable[..., NetNS]]:
    """A function that makes a namespace; its arguments are those of `NetNS.create`."""
    from netkit_bpf import NetNS
    from pytest_netkit_bpf import requirements

    if reason := requirements.why_no_netns():
        requirements.missing(request.config, reason)
    with ExitStack() as stack:
        yield lambda name=None: stack.enter_context(NetNS.create(name))


@pytest.fixture
def netns(netns_factory: Callable[..., NetNS]) -> NetNS:
    """A new namespace for the test."""
    return netns_factory()


@pytest.fixture
def netkit_pair_factory(
    request: pytest.FixtureRequest, netns_factory: Callable[..., NetNS], netkit_name: Callable[[], str]
) -> Iterator[Callable[..., NetkitPair]]:
    """A function that makes a pair; its arguments are those of `NetkitPair.create`.

    By default it has a unique name, the mode of the test's marker, and a separate namespace for each end.
    """
    from netkit_bpf import NetkitPair
    from pytest_netkit_bpf import requirements

    if reason := requirements.why_no_netkit():
        requirements.missing(request.config, reason)
    with ExitStack() as stack:

        def create(name: str | None = None, **options: Any) -> NetkitPair:
            options = {"mode": _mode(request), **options}
            for end in ("netns", "peer_netns"):
                if options.get(end) is None:
                    options[end] = netns_factory()
            return stack.enter_context(NetkitPair.create(name or netkit_name(), **options))

        yield create


@pytest.fixture
def netkit_pair(netkit_pair_factory: Callable[..., NetkitPair], netns: NetNS) -> NetkitPair:
    """A pair, its primary in the namespace `netns`, its peer in another one.

    The primary is 10.42.0.1/24 and fd42::1/64, the peer 10.42.0.2/24 and fd42::2/64.
    """
    pair = netkit_pair_factory(netns=netns)
    for address in PRIMARY_ADDRESSES:
        pair.primary.add_address(address)
    for address in PEER_ADDRESSES:
        pair.peer.add_address(address)
    return pair


@pytest.fixture
def netkit_lab_factory(request: pytest.FixtureRequest, netkit_leak_check: None) -> Iterator[Callable[..., Lab]]:
    """A function that makes a lab; its arguments are those of `Lab`, the mode by default that of the test's marker."""
    yield from _labs(request)


@pytest.fixture(scope="module")
def module_netkit_lab_factory(request: pytest.FixtureRequest) -> Iterator[Callable[..., Lab]]:
    """The same for labs that all tests of a module share; the mode is by default that of the module's `pytestmark`."""
    yield from _labs(request)


@pytest.fixture(scope="session")
def session_netkit_lab_factory(request: pytest.FixtureRequest) -> Iterator[Callable[..., Lab]]:
    """The same for labs that all tests of a run share, or of a worker of pytest-xdist."""
    yield from _labs(request)


def _labs(request: pytest.FixtureRequest) -> Iterator[Callable[..., Lab]]:
    from netkit_bpf import Lab
    from pytest_netkit_bpf import leaks, requirements

    if reason := requirements.why_no_netkit():
        requirements.missing(request.config, reason)
    with ExitStack() as stack:

        def create(nodes: Any = 3, **options: Any) -> Lab:
            with nullcontext() if request.scope == "function" else leaks.lasting():
                return stack.enter_context(Lab(nodes, **{"mode": _mode(request), **options}))

        yield create


@pytest.fixture
def netkit_lab(request: pytest.FixtureRequest, netkit_lab_factory: Callable[..., Lab]) -> Lab:
    """A lab of three nodes, n1 to n3, or what the marker says: `netkit_lab(4, shape="ring")`."""
    marker = request.node.get_closest_marker("netkit_lab")
    return netkit_lab_factory(*marker.args, **marker.kwargs) if marker else netkit_lab_factory()


@pytest.fixture
def netkit_monitor_factory(request: pytest.FixtureRequest, netkit_leak_check: None) -> Iterator[Callable[..., Monitor]]:
    """A function that makes a monitor; its arguments are those of `Monitor`."""
    from netkit_bpf import Monitor
    from pytest_netkit_bpf import requirements

    if reason := requirements.why_no_monitor():
        requirements.missing(request.config, reason)
    with ExitStack() as stack:
        yield lambda *pairs, **options: stack.enter_context(Monitor(*pairs, **options))


@pytest.fixture
def netkit_monitor(netkit_pair: NetkitPair, netkit_monitor_factory: Callable[..., Monitor]) -> Monitor:
    """A monitor of `netkit_pair`."""
    return netkit_monitor_factory(netkit_pair)


@pytest.fixture
def netkit_capture(
    request: pytest.FixtureRequest, netkit_monitor_factory: Callable[..., Monitor]
) -> Iterator[Callable[..., Capture]]:
    """A function that records the packets of pairs in the background; its arguments are those of `Monitor`.

    If the test fails, its report shows the last packets as tcpdump prints them, and a pcapng file has them all, in the
    directory of --netkit-captures or beside the report of --junitxml. Packets that there was no room for are counted
    there. `batch()` of what it returns ends the recording and gives the packets to the test.
    """
    from pytest_netkit_bpf import captures

    made: list[Capture] = []
    request.node._netkit_captures = made  # stashes came with pytest 7

    def record(*pairs: NetkitPair, **options: Any) -> Capture:
        made.append(captures.Capture(netkit_monitor_factory(*pairs, **{"snaplen": 2048, **options})))
        return made[-1]

    yield record
    del request.node._netkit_captures


@pytest.fixture
def bpf_object(request: pytest.FixtureRequest, netkit_leak_check: None) -> Iterator[Callable[..., BPFObject]]:
    """A function that compiles a text in C, or opens an object file by its path, and loads it.

    Its arguments are those of `BPFObject.compile` or `BPFObject.open`.
    """
    from netkit_bpf import BPFObject
    from pytest_netkit_bpf import requirements

    if reason := requirements.why_no_bpf():
        requirements.missing(request.config, reason)
    with ExitStack() as stack:

        def load(source: str | os.PathLike[str] | bytes, **options: Any) -> BPFObject:
            make = BPFObject.compile if isinstance(source, str) else BPFObject.open
            return stack.enter_context(make(source, **options))  # type: ignore[arg-type]

        yield load


@pytest.fixture
def bpf_program(bpf_object: Callable[..., BPFObject]) -> Callable[..., Program]:
    """A function that does the same and returns the program, or that whose name is the second argument."""

    def load(source: str | os.PathLike[str] | bytes, name: str | None = None, **options: Any) -> Program:
        programs = bpf_object(source, **options).programs
        if name is None and len(programs) != 1:
            pytest.fail(f"bpf_program needs the name of one of {', '.join(programs)}", pytrace=False)
        return programs[next(iter(programs)) if name is None else name]

    return load


def _mode(request: pytest.FixtureRequest) -> str:
    marker = request.node.get_closest_marker("netkit")
    return str(marker.kwargs.get("mode", "l3")) if marker else "l3"
