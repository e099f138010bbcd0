# SPDX-License-Identifier: MIT
"""From a container to its pair: a process with a root, a network and a cgroup of its own, as runtimes make it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from container import cgroup_mount, container
from netkit_bpf import NetkitPair, NetNS
from netkit_bpf.command import main
from netkit_bpf.internal import containers

ID, OTHER = "3f9a" * 16, "3fbb" * 16


@pytest.fixture
def cgroups(tmp_path: Path) -> Iterator[Path]:
    with cgroup_mount(tmp_path / "cgroup") as root:
        yield root


@pytest.fixture
def here() -> Iterator[NetNS]:
    """Where the primaries are."""
    with NetNS.create("nk-test-host") as netns:
        yield netns


def test_a_pair_is_opened_by_what_lives_behind_it(
    here: NetNS, cgroups: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    scope = cgroups / "test.slice" / f"docker-{ID}.scope"
    other = cgroups / "test.slice" / f"cri-containerd-{OTHER}.scope"
    with ExitStack() as stack:
        pid = stack.enter_context(container(scope, tmp_path / "one"))
        second = stack.enter_context(container(other, tmp_path / "two"))
        for name, process in (("nk1", pid), ("nk2", second)):
            inside = NetNS.open(process)
            stack.enter_context(NetkitPair.create(name, peer_name="eth0", netns=here, peer_netns=inside))
        for which in (ID, "3f9", pid, f"/proc/{pid}/ns/net", str(scope), NetNS.open(pid)):
            pair = NetkitPair.of(which)
            assert (pair.primary.name, pair.peer.name, pair.primary.netns) == ("nk1", "eth0", here)
        assert NetkitPair.of("3fb").primary.name == "nk2"
        with pytest.raises(LookupError, match="3f is the beginning of more than one id"):
            NetkitPair.of("3f")
        with pytest.raises(LookupError, match="no process here is in a container dead: there are 3f9a3f9a3f9a, 3fbb3f"):
            NetkitPair.of("dead")
        with pytest.raises(LookupError, match=r"^cgroup .*test.slice has ends of 2 pairs: nk1 in nk-test-host"):
            NetkitPair.of(str(cgroups / "test.slice"))

        def command(*words: str) -> tuple[int, str]:
            monkeypatch.setattr(sys, "argv", ["netkit-bpf", *words])
            try:
                status = main()
            except SystemExit as wrong_usage:
                status = wrong_usage.code  # type: ignore[assignment] # argparse's
            return status, "".join(capfd.readouterr())

        for option in (["--container", "3f9"], ["--pid", str(pid)]):
            status, text = command("pair", "show", *option)
            assert (status, text.splitlines()[0]) == (0, "nk1: l3")
        status, text = command("pair", "show", "--container", "3f")
        assert status == 1
        assert text.startswith("netkit-bpf: 3f is the beginning of more than one id: ")
        pin = ["--pin-path", str(tmp_path / "nowhere" / "pin")]
        status, text = command("fw", "show", "--container", ID, *pin)
        assert (status, "no firewall is pinned on nk1" in text) == (1, True), text
        status, text = command("pair", "show", "--container", "3f9", "--netns", "nk-test-host")
        assert (status, "leave it out" in text) == (2, True), text


def test_what_has_no_pair_of_its_own_is_an_error_that_says_what_it_has(
    here: NetNS, cgroups: Path, tmp_path: Path
) -> None:
    scope = cgroups / f"libpod-{ID}.scope"
    with container(scope, tmp_path / "shares", network=False), NetkitPair.create("nk1"):
        with pytest.raises(LookupError, match=r"^container 3f9a3f9a3f9a has no network namespace of its own"):
            NetkitPair.of(ID)
    with container(scope, tmp_path / "alone") as pid:
        inside = NetNS.open(pid)
        inside.run(["ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth1"], check=True)
        with pytest.raises(LookupError, match=r"^container 3f9a3f9a3f9a has no end of a pair: .*eth0 \(veth\)"):
            NetkitPair.of(ID)
        with NetkitPair.create("nk1", netns=here, peer_netns=inside), NetkitPair.create("nk2", netns=inside):
            with pytest.raises(LookupError, match=r"has ends of 2 pairs: nk1 in nk-test-host .*, nk2 in net:\["):
                NetkitPair.of(ID)
    with pytest.raises(LookupError, match=r"in a container 3f9a.*: in none$"):
        NetkitPair.of(ID)


def test_a_process_that_takes_the_id_of_another_is_not_followed(
    cgroups: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The container ends after its processes were listed, and other ones get their ids."""
    scope = cgroups / f"docker-{ID}.scope"
    with container(scope, tmp_path / "one") as pid:
        what, found = containers.find(ID)
    with container(cgroups / f"docker-{OTHER}.scope", tmp_path / "two") as pid:
        taken = [each._replace(pid=pid) for each in found]
        monkeypatch.setattr(containers, "find", lambda _: (what, taken))
        with pytest.raises(LookupError, match="no process is left in container 3f9a3f9a3f9a"):
            NetkitPair.of(ID)
