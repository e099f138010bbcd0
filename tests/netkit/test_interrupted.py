"""Whatever step of a creation Ctrl-C interrupts, no netkit device is left; tests/kernel/devices has the rest."""

from __future__ import annotations

import socket

import pytest

from interrupting import SLOW_TIMES, Closed, interrupt
from netkit_bpf import Lab, NetkitPair, NetNS
from pytest_netkit_bpf.leaks import Resources

# An object that is let go of while Ctrl-C unwinds is told, too.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


def devices(netns: NetNS) -> list[str]:
    return [name for _, name in netns.call(socket.if_nameindex)]


def test_no_pair_is_left() -> None:
    with NetNS.create() as here, NetNS.create() as there:
        before = Resources.now()
        assert interrupt(lambda: NetkitPair.create("nk0", netns=here, peer_netns=there), SLOW_TIMES) > SLOW_TIMES / 10
        assert devices(here) == devices(there) == ["lo"]
        assert before.wait_until_back() == []


def test_no_lab_is_left() -> None:
    before = Resources.now()
    assert interrupt(lambda: Closed(Lab(["n1", "n2"])), SLOW_TIMES) > SLOW_TIMES / 10
    assert before.wait_until_back() == []
