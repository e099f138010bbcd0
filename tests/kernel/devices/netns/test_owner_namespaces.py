"""Whether a process has ended, asked from other PID and time namespaces."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path

import pytest

from in_child import in_child
from netkit_bpf.devices.owner import Owner

CLONE_NEWTIME, CLONE_NEWNS, CLONE_NEWPID = 0x80, 0x20000, 0x20000000
MS_REC, MS_PRIVATE = 0x4000, 0x40000

libc = ctypes.CDLL(None, use_errno=True)


def checked(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), "unshare or mount")


def outer_proc() -> None:
    checked(libc.unshare(CLONE_NEWPID))


def later_clock() -> None:
    checked(libc.unshare(CLONE_NEWTIME))
    Path("/proc/self/timens_offsets").write_text("boottime 1000 0\n")


def own_proc() -> None:
    checked(libc.unshare(CLONE_NEWPID | CLONE_NEWNS))
    checked(libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None))


def inside(enter: Callable[[], None], function: Callable[[], str]) -> str:
    """What the function returns in a new process inside new namespaces."""

    def first() -> str:
        if enter is own_proc:
            checked(libc.mount(b"proc", b"/proc", b"proc", 0, None))
        return function()

    def outside() -> str:
        enter()  # where this process's children will be
        return in_child(first)

    return in_child(outside)


@pytest.mark.parametrize("enter", [own_proc, outer_proc, later_clock], ids=lambda enter: enter.__name__)
def test_nobody_is_thought_dead_across_namespaces(enter: Callable[[], None]) -> None:
    mine = Owner.current()
    assert inside(enter, lambda: str(mine.has_ended())) == "False"
    theirs = Owner.of(inside(enter, lambda: Owner.current().alias))
    assert theirs is not None
    assert theirs != mine
    assert not theirs.has_ended()  # it has, but its id and start mean nothing here


def test_inside_a_namespace_of_its_own_a_process_is_judged_as_elsewhere() -> None:
    def judge() -> str:
        child = Owner.of(in_child(lambda: Owner.current().alias))
        assert child is not None
        return f"{Owner.current().has_ended()} {child.has_ended()}"

    assert inside(own_proc, judge) == "False True"
