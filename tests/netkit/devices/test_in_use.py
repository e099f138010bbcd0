"""What may be in use is neither reaped nor replaced; what cannot be is."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator

import pytest

import netkit_bpf as nk
from daemon import Daemon
from elsewhere import need_device_kind, only_where
from forked import Forked
from interrupting import TIMES, interrupt
from netkit_bpf import Device, Direction, NetkitDevice, NetkitPair, NetNS
from netkit_bpf.internal import kernel_release
from programs import ONE, load
from pytest_netkit_bpf.leaks import Resources


@pytest.fixture
def there() -> Iterator[NetNS]:
    with NetNS.create("nk-test-in-use") as made:
        yield made


def left_by_a_killed_process(netns: NetNS, there: NetNS | None = None) -> int:
    with Forked(lambda: NetkitPair.create("nk0", netns=netns, peer_netns=there)) as maker:
        return maker.pid


def reaped(netns: NetNS) -> list[str]:
    return [orphan.name for orphan in nk.reap(netns)]


@pytest.mark.parametrize("go_on", [lambda: None, lambda: os.closerange(3, 1000)], ids=["plain", "closes descriptors"])
def test_a_daemons_pair_stays_as_long_as_the_daemon(netns: NetNS, go_on: object) -> None:
    with Daemon(lambda: NetkitPair.create("nk0", netns=netns), go_on) as daemon:  # type: ignore[arg-type]
        assert reaped(netns) == []
        with pytest.raises(FileExistsError, match=r"which has ended, but a process that was forked from it may go on"):
            NetkitPair.create("nk0", netns=netns, replace=True)
        daemon.kill()
        assert reaped(netns) == ["nk0"]


@pytest.mark.parametrize("end", ["nk0", "nk0p"])
def test_a_pair_that_was_given_another_alias_stays(netns: NetNS, there: NetNS, end: str) -> None:
    left_by_a_killed_process(netns, there)
    side = netns if end == "nk0" else there
    side.run(["ip", "link", "set", end, "alias", "uplink to Berlin"], check=True)
    assert reaped(netns) == reaped(there) == []
    NetkitPair.open("nk0", netns).delete()


def test_a_pair_whose_other_end_is_out_of_reach_stays(netns: NetNS) -> None:
    with Forked(lambda: NetkitPair.create("nk0", netns=netns)) as maker:
        with NetNS.create() as hidden:
            NetkitPair.open("nk0", netns).peer.move(hidden)
            with Forked(lambda: hidden):  # a namespace of which only descriptors are left
                hidden.delete()
                maker.kill()
                assert reaped(netns) == []


def test_a_pair_with_a_program_stays(netns: NetNS) -> None:
    left_by_a_killed_process(netns)
    with load(ONE) as obj, NetkitPair.open("nk0", netns).attach(obj.programs["one"], "peer"):
        assert reaped(netns) == []
    assert reaped(netns) == ["nk0"]


@pytest.mark.parametrize("end", ["primary", "peer"])
@pytest.mark.parametrize("direction", Direction)
def test_a_pair_with_a_program_on_a_tcx_hook_of_an_end_stays(
    netns: NetNS, there: NetNS, end: str, direction: Direction
) -> None:
    left_by_a_killed_process(netns, there)
    device: Device = getattr(NetkitPair.open("nk0", netns), end)
    with load(ONE) as obj, device.attach(obj.programs["one"], direction):
        assert reaped(netns) == reaped(there) == []
        with pytest.raises(FileExistsError, match="which has ended, but a program is attached to it"):
            NetkitPair.create("nk0", netns=netns, replace=True)
    assert reaped(netns) == ["nk0"]


@pytest.mark.parametrize("end", ["nk0", "nk0p"])
def test_a_pair_with_a_port_of_a_bridge_stays(netns: NetNS, there: NetNS, end: str) -> None:
    need_device_kind("bridge")
    with Forked(lambda: NetkitPair.create("nk0", mode="l2", netns=netns, peer_netns=there)):
        pass
    side = netns if end == "nk0" else there
    side.run(["ip", "link", "add", "br0", "type", "bridge"], check=True)
    side.run(["ip", "link", "set", end, "master", "br0"], check=True)
    assert reaped(netns) == reaped(there) == []
    with pytest.raises(FileExistsError, match="which has ended, but it is a port of a bridge or of another device"):
        NetkitPair.create("nk0", netns=netns, replace=True)
    side.run(["ip", "link", "set", end, "nomaster"], check=True)
    assert reaped(netns) == ["nk0"]
    side.run(["ip", "link", "delete", "br0"], check=True)


def test_a_single_device_with_a_program_stays(netns: NetNS) -> None:
    only_where(kernel_release.is_at_least("7.1"), "Linux 7.1 or later")
    with Forked(lambda: NetkitDevice.create("nk0", netns=netns)):
        pass
    with load(ONE) as obj, Device.open("nk0", netns).attach(obj.programs["one"], "ingress"):
        assert reaped(netns) == []
    assert reaped(netns) == ["nk0"]


def test_a_pair_into_a_namespace_that_somebody_lives_in_stays(netns: NetNS, there: NetNS) -> None:
    left_by_a_killed_process(netns, there)
    with there.popen(["cat"], stdin=subprocess.PIPE) as process:
        assert reaped(netns) == []
        process.kill()
    assert reaped(netns) == ["nk0"]


def test_a_name_that_is_taken_is_told_with_its_owner_and_what_to_do(netns: NetNS) -> None:
    def refusal(**options: object) -> str:
        with pytest.raises(FileExistsError) as caught:
            NetkitPair.create("nk0", netns=netns, **options)  # type: ignore[arg-type]
        return str(caught.value)

    with NetkitPair.create("nk0", netns=netns):
        told = refusal(replace=True)
        assert f"nk0 was made by process {os.getpid()} (this one), which has not ended" in told
        assert "NetkitPair.open('nk0') opens it as it is, or choose another name" in told
    with Forked(lambda: NetkitPair.create("nk0", netns=netns)) as living:
        assert re.search(rf"nk0 was made by process {living.pid} \(.+\), which has not ended", refusal(replace=True))
    assert "nk0 was left by a process that has ended: nk.reap() removes it, replace=True replaces it" in refusal()
    assert reaped(netns) == ["nk0"]
    with NetkitPair.create("nk0", netns=netns, alias="uplink"):
        assert "nk0 belongs to somebody else, or was given another alias: NetkitPair.open('nk0') opens" in refusal(
            replace=True
        )
    netns.run(["ip", "link", "add", "nk0", "type", "veth", "peer", "name", "ve1"], check=True)
    assert "nk0 is a veth device: choose another name" in refusal(replace=True)
    netns.run(["ip", "link", "delete", "nk0"], check=True)


def test_the_place_of_what_a_killed_process_left_is_taken(netns: NetNS, there: NetNS) -> None:
    left_by_a_killed_process(netns, there)
    old = NetkitPair.open("nk0", netns).primary.ifindex
    with NetkitPair.create("nk0", netns=netns, peer_netns=there, replace=True) as pair:
        assert pair.primary.ifindex != old
        with pytest.raises(FileExistsError):
            NetkitPair.create("nk0", netns=netns, replace=True)
    with NetkitPair.create("nk0", netns=netns, replace=True):  # nothing was there
        pass


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # of what is let go of while Ctrl-C unwinds
def test_ctrl_c_during_a_creation_leaves_nothing(netns: NetNS) -> None:
    before = Resources.now()
    assert interrupt(lambda: NetkitPair.create("nk0", netns=netns)) > TIMES / 10
    assert nk.pairs(netns) == []
    assert before.wait_until_back() == []
