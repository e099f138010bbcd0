"""The whole path on a kernel without netkit: the same programs on the tcx hooks of a veth pair, real traffic."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator

import pytest

import scenarios
from netkit_bpf import Device, NetkitPair, NetNS, _core
from traffic import End, Wire

ADDRESSES = {4: ("10.42.0.1/24", "10.42.0.2/24"), 6: ("fd00::1/64", "fd00::2/64")}


@pytest.fixture(params=[6, 4], ids=["IPv6", "IPv4"])
def wire(request: pytest.FixtureRequest) -> Iterator[Wire]:
    """A veth pair across two namespaces, dressed as a netkit pair."""
    if not _has_tcx():
        pytest.skip("this kernel has no tcx (6.6)")
    left, right = ADDRESSES[request.param]
    with NetNS.create() as here, NetNS.create() as there:
        link = ["ip", "link", "add", "ve0", "type", "veth", "peer", "name", "ve1", "netns"]
        holder = there.popen(["sleep", "60"])
        try:
            here.run([*link, str(holder.pid)], check=True)
        finally:
            holder.kill()
            holder.wait()
        pair = NetkitPair(_device(here, "ve0"), _device(there, "ve1"), owned=False)
        for device, address in ((pair.primary, left), (pair.peer, right)):
            device.up()
            device.add_address(address)
        yield Wire(pair, End(here, left.split("/")[0]), End(there, right.split("/")[0]))


def _device(netns: NetNS, name: str) -> Device:
    info = _core.device_get(netns.path, name)
    return Device(info.ifindex, info.name, netns)


def _has_tcx() -> bool:
    release = subprocess.run(["uname", "-r"], capture_output=True, text=True, check=True).stdout.split(".")
    return (int(release[0]), int(release[1])) >= (6, 6)


@pytest.mark.parametrize("scenario", scenarios.ALL, ids=lambda scenario: scenario.__name__)
def test_on_veth(scenario: Callable[[Wire], None], wire: Wire) -> None:
    scenario(wire)
