"""netkit-bpf reap: what is pinned for pairs that are gone, and without privilege what it could not look into."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from elsewhere import needs_tcx
from netkit_bpf import BPFObject, Firewall, NetNS
from netkit_bpf.functions.firewall_pins import default_path
from programs import ONE, build
from veth import veth_wire

COMMAND = [sys.executable, "-m", "netkit_bpf", "reap", "--dry-run"]


def test_namespaces_that_may_not_be_entered_are_named() -> None:
    with NetNS.create("nk-test-closed"):
        unprivileged = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", *COMMAND]
        done = subprocess.run(unprivileged, capture_output=True, text=True, check=True)
        assert done.stdout == ""
        assert done.stderr.startswith("netkit-bpf: skipped for lack of CAP_SYS_ADMIN: ")
        assert "nk-test-closed" in done.stderr
        assert done.stderr.endswith(": run as root, or with sudo\n")
        assert "not looked into" not in subprocess.run(COMMAND, capture_output=True, text=True, check=True).stderr


@pytest.fixture
def pins() -> Iterator[None]:
    """A BPF file system where the commands pin."""
    subprocess.run(["mount", "-t", "bpf", "bpf", "/sys/fs/bpf"], check=True)
    yield
    subprocess.run(["umount", "/sys/fs/bpf"], check=True)


def reaped(*options: str) -> list[dict[str, str]]:
    argv = [*COMMAND[:-1], "--json", *options]
    lines = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.splitlines()
    return [{key: each[key] for key in ("type", "pinned")} for each in map(json.loads, lines) if "pinned" in each]


@needs_tcx
@pytest.mark.usefixtures("pins")
def test_what_is_pinned_goes_when_its_pair_is_gone() -> None:
    with veth_wire(4) as wire:
        firewall = default_path(wire.pair)
        link_pin = Path("/sys/fs/bpf/netkit-bpf/prog") / firewall.name / "peer" / "one"
        link_pin.parent.mkdir(parents=True)
        with BPFObject.open(build(ONE)) as obj, wire.pair.attach(obj.programs["one"], "peer") as link:
            link.pin(link_pin)
        with Firewall(wire.pair, "pass") as made:
            made.pin()
        assert reaped() == []
    expected = [str(link_pin), str(firewall)]
    assert reaped("--netns", "/proc/self/ns/net") == []  # it was another's
    assert reaped("--dry-run") == [{"type": "would remove", "pinned": each} for each in expected]
    assert reaped() == [{"type": "removed", "pinned": each} for each in expected]
    assert not link_pin.parents[2].exists()
    assert not firewall.exists()
    assert reaped() == []
