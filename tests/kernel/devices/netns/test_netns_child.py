"""Programs that are run inside: children as any other, and with the surroundings that `ip netns exec` gives them."""

from __future__ import annotations

import ctypes
import os
import pwd
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from netkit_bpf import NetNS
from pytest_netkit_bpf.leaks import Resources
from unprivileged import unprivileged

PR_SET_PDEATHSIG, SIGKILL = 1, 9
NAME = "nk-test-child"


@pytest.fixture
def netns() -> Iterator[NetNS]:
    with NetNS.create(NAME) as made:
        yield made


def said(netns: NetNS, *argv: str, **options: Any) -> list[str]:
    return str(netns.run(argv, capture_output=True, text=True, check=True, **options).stdout).split()


def test_a_child_that_wants_to_die_with_its_parent_lives_as_long_as_the_parent(netns: NetNS) -> None:
    die_with_parent = ctypes.CDLL(None).prctl
    with netns.popen(["cat"], stdin=subprocess.PIPE, preexec_fn=lambda: die_with_parent(1, 9)) as process:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.2)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait() == 0
    for _ in range(20):
        assert netns.run(["setpriv", "--pdeathsig", "KILL", "sleep", "0.01"]).returncode == 0


def test_a_child_dies_with_the_thread_that_started_it(netns: NetNS) -> None:
    """The control: so it is with `subprocess`."""
    started: list[subprocess.Popen[str]] = []

    def start() -> None:
        argv = ["setpriv", "--pdeathsig", "KILL", "sh", "-c", "echo; exec cat"]
        started.append(netns.popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        assert started[0].stdout is not None
        started[0].stdout.readline()  # it has asked for the signal

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    with started[0] as process:
        assert process.wait() == -SIGKILL


def test_sys_is_that_of_the_namespace(netns: NetNS) -> None:
    netns.run(["ip", "link", "add", "ve0", "type", "veth", "peer", "name", "ve1"], check=True)
    assert {"lo", "ve0", "ve1"} <= {*said(netns, "ls", "/sys/class/net")}
    assert "ve0" not in os.listdir("/sys/class/net")
    assert said(netns, "stat", "--file-system", "--format=%T", "/sys/fs/bpf") == ["bpf_fs"]


def test_files_in_etc_netns_are_those_in_etc(netns: NetNS) -> None:
    directory = Path("/etc/netns", NAME)
    directory.mkdir(parents=True)
    try:
        (directory / "hostname").write_text("inside")
        assert said(netns, "cat", "/etc/hostname") == ["inside"]
        assert Path("/etc/hostname").read_text() != "inside"
    finally:
        (directory / "hostname").unlink()
        directory.rmdir()


def test_what_a_child_mounts_is_its_own(netns: NetNS, tmp_path: Path) -> None:
    before = Resources.now().mounts
    netns.run(["mount", "-t", "tmpfs", "tmpfs", tmp_path], check=True)
    assert Resources.now().mounts == before


def test_a_child_can_be_another_user(netns: NetNS) -> None:
    nobody = pwd.getpwnam("nobody")
    expected = [str(nobody.pw_uid), f"net:[{netns.inode}]"]
    for user in ("nobody", nobody.pw_uid):
        assert said(netns, "sh", "-c", "id -u; readlink /proc/self/ns/net", user=user) == expected
    assert said(netns, "id", "-G", group="nogroup", extra_groups=[7, "mail"])[0] == "65534"
    with pytest.raises(KeyError):
        netns.run(["true"], user="no-such-user")
    with pytest.raises(ValueError, match="user must not be negative"):
        netns.run(["true"], user=-1)


def test_what_keeps_a_child_out_is_told(netns: NetNS) -> None:
    told = unprivileged(lambda: netns.run(["true"]))
    assert told.startswith("PermissionError: [Errno 1] enter network namespace nk-test-child: ")
    assert "needs CAP_SYS_ADMIN" in told


def test_what_a_function_before_the_program_raises_is_told_as_elsewhere(netns: NetNS) -> None:
    with pytest.raises(subprocess.SubprocessError, match="Exception occurred in preexec_fn"):
        netns.run(["true"], preexec_fn=lambda: 1 / 0)
