"""What is no network namespace is refused, by what it is, and never opened: a FIFO would wait for ever."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from netkit_bpf import NetNS


def test_the_namespace_of_a_thread_and_of_its_process_is_taken_by_every_way_to_it() -> None:
    current = NetNS.current()
    ways: list[Any] = [os.getpid(), "/proc/self/ns/net", b"/proc/self/ns/net", Path("/proc/thread-self/ns/net")]
    for which in (*ways, f"/proc/self/fd/{current.fileno()}"):
        assert NetNS.open(which) == current
    assert os.readlink("/proc/self/ns/net") == f"net:[{current.inode}]"
    assert os.fstat(current.fileno()).st_ino == current.inode


def test_a_link_leads_to_what_it_leads_to_now(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("/proc/self/ns/net")
    opened = NetNS.open(link)
    link.unlink()
    assert opened == NetNS.current()
    link.symlink_to(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match=rf"open network namespace {link}: .*is a dangling link"):
        NetNS.open(link)


@pytest.mark.timeout(20)
def test_what_is_something_else_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("net:[4026531840]")
    (tmp_path / "empty").touch()
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "socket"))
        wrong = {
            tmp_path / "file": "a regular file",
            tmp_path / "empty": "a regular file",
            tmp_path / "fifo": "a FIFO",
            tmp_path / "socket": "a socket",
            tmp_path: "a directory",
            Path("/dev/null"): "a device",
            Path("/proc/self/ns/mnt"): "a namespace of another kind",
        }
        for path, kind in wrong.items():
            with pytest.raises(ValueError, match=f"^{path} is not a network namespace: it is {kind}$"):
                NetNS.open(path)


def test_what_is_not_there_is_named_as_it_was_asked_for(tmp_path: Path) -> None:
    name = "nk-test-nosuch"
    with pytest.raises(FileNotFoundError, match=f"open network namespace {name}: .*there is no /run/netns/{name}"):
        NetNS.open(name)
    with pytest.raises(FileNotFoundError, match=rf"open network namespace {tmp_path}/x: No such file or directory$"):
        NetNS.open(tmp_path / "x")
    ended = os.fork()
    if ended == 0:
        os._exit(0)
    os.waitpid(ended, 0)
    with pytest.raises(FileNotFoundError, match=f"open network namespace of process {ended}: "):
        NetNS.open(ended)


@pytest.mark.parametrize("which", ["", "a\0b", "/a\0b", ".", "x" * 256, 0, -1, 1 << 31])
def test_what_can_be_none_is_refused(which: str | int) -> None:
    with pytest.raises(ValueError, match=r"network namespace|path|process"):
        NetNS.open(which)


@pytest.mark.parametrize("which", [None, 1.5, True, ["red"]])
def test_what_makes_no_sense_is_refused(which: Any) -> None:
    with pytest.raises(TypeError):
        NetNS.open(which)


def test_a_namespace_that_is_let_go_says_so_and_equals_no_other() -> None:
    current = NetNS.current()
    with NetNS.open(os.getpid()) as opened:
        assert opened == current
        assert repr(opened) == f"<NetNS net:[{current.inode}]>"
    assert opened != current
    assert opened == opened
    assert opened.inode == current.inode
    assert repr(opened) == f"<NetNS net:[{current.inode}] closed>"
    for use in (opened.fileno, lambda: opened.call(os.getpid)):
        with pytest.raises(ValueError, match="this object has released its network namespace"):
            use()
    opened.delete()  # is no error
