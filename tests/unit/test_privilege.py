"""Without privilege each refusal names the capability that is missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from netkit_bpf import Device, NetkitPair, NetNS
from netkit_bpf.functions.monitor_programs import probe_load


@pytest.fixture(autouse=True)
def unprivileged() -> None:
    """Everybody can run these by taking the capabilities away; that is how `make test` does it."""
    status = Path("/proc/self/status").read_text()
    if "CapEff:\t0000000000000000" not in status:
        pytest.skip("this process has capabilities: run it through setpriv --bounding-set=-all")


def test_making_a_pair_needs_cap_net_admin() -> None:
    with pytest.raises(PermissionError, match=r"create netkit pair nk0: .*needs CAP_NET_ADMIN"):
        NetkitPair.create()


def test_making_a_namespace_needs_cap_sys_admin() -> None:
    with pytest.raises(PermissionError, match="needs CAP_SYS_ADMIN"):
        NetNS.create()


def test_loading_the_monitor_needs_cap_bpf() -> None:
    with pytest.raises(PermissionError, match=r"load BPF object monitor: .*needs CAP_BPF and CAP_NET_ADMIN"):
        probe_load()


def test_listing_the_programs_of_a_hook_needs_cap_net_admin() -> None:
    with pytest.raises(PermissionError, match=r"the programs on lo \(ingress\): .*needs CAP_BPF and CAP_NET_ADMIN"):
        Device.open("lo").programs("ingress")


def test_the_command_says_so_in_one_line() -> None:
    done = subprocess.run([sys.executable, "-m", "netkit_bpf", "monitor"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("netkit-bpf: create netkit pair nk0: Operation not permitted")
    assert done.stderr.count("\n") == 1


def test_the_doctor_names_what_is_missing() -> None:
    done = subprocess.run([sys.executable, "-m", "netkit_bpf", "doctor"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "without CAP_NET_ADMIN, CAP_SYS_ADMIN, CAP_BPF: run as root" in done.stdout
    assert "netkit-bpf monitor cannot run here" in done.stdout
    assert done.stderr == ""
