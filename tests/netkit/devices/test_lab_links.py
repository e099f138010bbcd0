"""Links of a lab that are as bad as real ones."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from typing import Any

import pytest

from netkit_bpf import Lab


def disciplines(lab: Lab, name: str) -> list[dict[str, Any]]:
    """What tc(8) says of both ends of a link."""
    node = lab[name]
    ends = [(lab.hub, name), (node.netns, "nk0")]
    shown = [
        netns.run(["tc", "-j", "qdisc", "show", "dev", device], check=True, stdout=subprocess.PIPE).stdout
        for netns, device in ends
    ]
    return [each for one in shown for each in json.loads(one)]


def round_trip(lab: Lab) -> float:
    """Seconds, of a datagram that comes back."""
    left, right = lab.n1, lab.n2
    with (
        left.socket(socket.AF_INET6, socket.SOCK_DGRAM) as one,
        right.socket(socket.AF_INET6, socket.SOCK_DGRAM) as two,
    ):
        for each, node in ((one, left), (two, right)):
            each.bind((node.address, 4242))
            each.settimeout(20)
        began = time.monotonic()
        one.sendto(b"?", (right.address, 4242))
        data, back = two.recvfrom(10)
        two.sendto(data, back)
        one.recv(10)
        return time.monotonic() - began


def test_a_link_is_made_slow_changed_and_made_perfect_again(netkit_lab: Lab) -> None:
    netkit_lab.link("n1", delay="500ms")
    assert 1.0 <= round_trip(netkit_lab) < 5.0  # there and back
    netkit_lab.link("n1", delay=0.02, jitter="5ms", loss=0.25, rate="8mbit", limit=50)
    for found in disciplines(netkit_lab, "n1"):
        assert (found["kind"], found["root"], found["options"]["limit"]) == ("netem", True, 50)
        assert found["options"]["delay"] == {"delay": 0.02, "jitter": 0.005, "correlation": 0}
        assert found["options"]["loss-random"] == {"loss": 0.25, "correlation": 0}
        assert found["options"]["rate"]["rate"] == 1_000_000  # bytes a second
    netkit_lab.link("n1", limit=7)
    assert [each["options"]["limit"] for each in disciplines(netkit_lab, "n1")] == [7, 7]
    netkit_lab.link("n1", rate="100gbit")
    (options,) = {json.dumps(each["options"]) for each in disciplines(netkit_lab, "n1")}
    assert json.loads(options)["rate"]["rate"] == 12_500_000_000
    assert "delay" not in json.loads(options)
    for _ in range(2):
        netkit_lab.link("n1")
        assert [each["kind"] for each in disciplines(netkit_lab, "n1")] == ["noqueue"] * 2
    assert round_trip(netkit_lab) < 1.0


def test_a_link_that_loses_everything(netkit_lab: Lab) -> None:
    netkit_lab.link("n2", loss=1)
    left, right = netkit_lab.n1, netkit_lab.n2
    with (
        left.socket(socket.AF_INET6, socket.SOCK_DGRAM) as one,
        right.socket(socket.AF_INET6, socket.SOCK_DGRAM) as two,
    ):
        two.bind((right.address, 4242))
        two.settimeout(0.5)
        one.sendto(b"?", (right.address, 4242))
        with pytest.raises(TimeoutError):
            two.recv(10)


def test_names(netkit_lab: Lab) -> None:
    assert netkit_lab.n1 is netkit_lab["n1"]
    assert {"n1", "n2", "n3", "link"} <= set(dir(netkit_lab))
    with pytest.raises(AttributeError, match="'n9'"):
        _ = netkit_lab.n9
    with pytest.raises(KeyError, match="no node 'n9'"):
        netkit_lab.link("n9", delay=1)
