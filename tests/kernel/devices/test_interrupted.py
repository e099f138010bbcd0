"""Whatever step of a creation Ctrl-C interrupts, nothing is left of it: neither devices nor names nor descriptors."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from interrupting import TIMES, interrupt
from netkit_bpf import NetkitPair, NetNS
from netkit_bpf._core import hand_over
from netkit_bpf.devices.pair import create_pairs
from netkit_bpf.devices.pair_options import pair_spec
from pytest_netkit_bpf.leaks import Resources
from veth import has_tcx

needs_tcx = pytest.mark.skipif(not has_tcx(), reason="this kernel has no tcx hooks (6.6)")


# An object that is let go of while Ctrl-C unwinds is told, too; as an error that keeps it, that would keep the name.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture
def here() -> Iterator[NetNS]:
    with NetNS.create() as netns:
        yield netns


def devices(netns: NetNS) -> list[str]:
    return [name for _, name in netns.call(socket.if_nameindex)]


def make_veth_pair(netns: NetNS) -> NetkitPair:
    """As `NetkitPair.create` makes it, of the kind that every kernel has."""
    spec = pair_spec("ve0", "ve1")
    spec.kind = "veth"
    return hand_over(create_pairs(netns, [(spec, netns)])[0])


def test_no_pair_is_left(here: NetNS) -> None:
    before = Resources.now()
    interrupted = interrupt(lambda: make_veth_pair(here))
    assert interrupted > TIMES / 10
    assert devices(here) == ["lo"]
    assert before.wait_until_back() == []


@pytest.mark.parametrize("name", ["nk-test-interrupted", None])
def test_no_namespace_is_left(name: str | None) -> None:
    before = Resources.now()
    interrupted = interrupt(lambda: NetNS.create(name))
    assert interrupted > TIMES / 10
    assert not Path("/run/netns/nk-test-interrupted").exists()
    assert before.wait_until_back() == []
