# SPDX-License-Identifier: MIT
"""Containers are found by what runtimes write into cgroups, and not by what containers write there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest

from netkit_bpf import NetkitPair
from netkit_bpf.internal.containers import cgroup_of, find, processes

ID, OTHER, PODMAN = "3f9a" * 16, "3fbb" * 16, "beef" * 16
POD = "0b5c1e9e-95c4-4d6a-9a52-5f3c5d0a8a11"
UNDERSCORED = POD.replace("-", "_")
Tree = Callable[..., Path]


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """A /proc whose processes have these cgroups."""

    def make(*cgroups: str) -> Path:
        for pid, text in enumerate(cgroups, 100):
            (tmp_path / str(pid)).mkdir()
            (tmp_path / str(pid) / "cgroup").write_text(text if ":/" in text else f"0::{text}\n")
        (tmp_path / "self").mkdir()
        (tmp_path / "99").mkdir()  # has ended meanwhile
        return tmp_path

    return make


V1 = "12:pids:{0}\n11:cpu,cpuacct:{0}\n1:name=systemd:{0}\n0::/system.slice/containerd.service\n"


@pytest.mark.parametrize(
    "path",
    [
        f"/system.slice/docker-{ID}.scope",
        f"/docker/{ID}",
        f"/docker/{ID}/init.scope",
        f"/machine.slice/libpod-{ID}.scope/container",
        f"/libpod_parent/libpod-{ID}",
        f"/libpod_parent/{PODMAN}/libpod-{ID}",
        f"/machine.slice/machine-libpod_pod_{PODMAN}.slice/libpod-{ID}.scope",
        f"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope/container",
        f"/kubepods.slice/kubepods-pod{UNDERSCORED}.slice/cri-containerd-{ID}.scope",
        f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UNDERSCORED}.slice/crio-{ID}.scope",
        f"/kubepods/besteffort/pod{POD}/{ID}",
        f"/kubepods/besteffort/pod{POD}/crio-{ID}",
        f"/system.slice/containerd.service/kubepods-burstable-pod{UNDERSCORED}.slice:cri-containerd:{ID}",
        f"/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{UNDERSCORED}.slice/cri-containerd-{ID}.scope",
        f"/../../kubepods/pod{POD}/{ID}",  # seen from a cgroup namespace
    ],
)
@pytest.mark.parametrize("form", ["0::{0}\n", V1], ids=["v2", "v1"])
def test_a_container_of_each_runtime_is_found_by_the_beginning_of_its_id(tree: Tree, path: str, form: str) -> None:
    proc = tree("/init.scope", form.format(path), "/user.slice/user-0.slice/session-1.scope")
    for which in (ID, ID[:12], "3"):
        what, found = find(which, proc)
        assert what == "container 3f9a3f9a3f9a"
        assert [each.pid for each in found] == [101]
    for pod in (POD, PODMAN):
        if pod in path.replace("_", "-") and ".slice:" not in path:
            what, found = find(pod, proc)
            assert (what, [each.pid for each in found]) == (f"pod {pod}", [101])


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/system.slice/docker.service",
        f"/machine.slice/libpod-conmon-{ID}.scope",
        f"/system.slice/crio-conmon-{ID}.scope",
        f"/system.slice/docker-{ID}.scope (deleted)",
        f"/docker/{ID}0",
        f"/docker/{ID[1:]}",
    ],
)
def test_no_other_process_is_taken_for_one_in_a_container(tree: Tree, path: str) -> None:
    assert list(processes(tree(path, V1.format(path)))) == []


def test_an_ambiguous_or_unknown_id_is_an_error_that_lists_what_there_is(tree: Tree) -> None:
    proc = tree(f"/docker/{ID}", f"/docker/{ID}", f"/docker/{OTHER}", f"/kubepods/pod{POD}/{'0' * 64}")
    with pytest.raises(LookupError, match=r"^3f is the beginning of more than one id: container 3f9a3f9a3f9a, cont"):
        find("3f", proc)
    with pytest.raises(LookupError, match=rf"^0 is the beginning .* id: container 000000000000, pod {POD}$"):
        find("0", proc)
    with pytest.raises(LookupError, match=r"in a container beef: there are 000000000000, 3f9a3f9a3f9a, 3fbb3fbb3fbb$"):
        find("beef", proc)
    with pytest.raises(LookupError, match=r"in a container beef: in none$"):
        find("beef", proc / "self")
    assert [each.pid for each in find("3f9", proc)[1]] == [100, 101]


def test_long_lists_are_cut(tree: Tree) -> None:
    proc = tree(*(f"/docker/{number:064x}" for number in range(0, 13 << 208, 1 << 208)))
    with pytest.raises(LookupError, match=r"^no process .* there are 000000000000, .*, 000000000009 and 3 more$"):
        find("f", proc)


@pytest.mark.parametrize("which", ["", "web", "3F9A", "3f9a*", "f" * 65, "3f\n"])
def test_what_is_not_an_id_is_refused(which: str) -> None:
    with pytest.raises(ValueError, match="is not the id of a container"):
        NetkitPair.of(which)


def test_a_container_cannot_pass_for_another_by_cgroups_of_its_own(tree: Tree) -> None:
    """It may name those below its own as it likes."""
    proc = tree(f"/docker/{ID}", f"/docker/{OTHER}/docker/{ID}", f"/docker/{OTHER}/kubepods/pod{POD}/{'0' * 64}")
    assert [each.pid for each in find(ID, proc)[1]] == [100]
    assert [each.pid for each in find(OTHER, proc)[1]] == [101, 102]
    with pytest.raises(LookupError, match=r"^no process here is in a container 0b5c"):
        find(POD, proc)
    with pytest.raises(
        LookupError, match=r"^container 00 runs inside container 3fbb3fbb3fbb, .*: give the id of a proc"
    ):
        find("00", proc)


@pytest.mark.parametrize("end", ["\v", "\f", "\r", "\x1c", "\x85", "\u2028"])
def test_a_container_cannot_pass_for_another_by_a_name_that_looks_like_a_line(tree: Tree, end: str) -> None:
    proc = tree(f"0::/docker/{OTHER}/x{end}0::/docker/{ID}\n")
    assert [(each.pid, each.place.container) for each in processes(proc)] == [(100, OTHER)]


def test_a_user_cannot_pass_for_a_container_of_the_system(tree: Tree) -> None:
    """Whoever may make cgroups below a unit of his own can give them any name."""
    users = f"/user.slice/user-1000.slice/user@1000.service/docker-{ID}.scope"
    proc = tree(users, f"/system.slice/docker-{ID}.scope", f"/system.slice/ci.service/docker-{ID}.scope")
    assert [each.pid for each in find(ID, proc)[1]] == [101]
    (proc / "101" / "cgroup").unlink()
    assert [each.pid for each in find(ID, proc)[1]] == [100, 102]


def test_a_process_whose_hierarchies_disagree_is_in_no_container(tree: Tree) -> None:
    assert list(processes(tree(f"2:pids:/docker/{ID}\n1:name=systemd:/docker/{OTHER}\n"))) == []


def test_a_cgroup_is_known_by_where_its_file_system_is_mounted(monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = ["x /sys/fs/cgroup cgroup2 rw 0 0", "x /old/pids cgroup rw 0 0", "x /proc proc rw 0 0"]
    monkeypatch.setattr("netkit_bpf.internal.proc.lines", lambda *_: mounts)
    for path, cgroup in {
        "/sys/fs/cgroup/machine.slice/x/": "/machine.slice/x",
        "/sys/fs/cgroup/a/../b": "/b",
        "/sys/fs/cgroup": "/",
        "/old/pids/docker/x": "/docker/x",
    }.items():
        assert cgroup_of(path) == PurePosixPath(cgroup)
    assert cgroup_of("/proc/1/root/sys/fs/cgroup/x") is None
    assert cgroup_of("/sys/fs/cgroups") is None
