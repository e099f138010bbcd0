"""Whether a process lives that made something, or one that it forked, whatever they do with their descriptors."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from daemon import Daemon
from forked import Forked
from netkit_bpf._core import claim_is_free, claim_make
from netkit_bpf.devices.owner import Owner
from pytest_netkit_bpf.leaks import Resources


def test_a_process_holds_its_claim_until_it_ends(pipe: tuple[int, int]) -> None:
    read, write = pipe
    with Forked(lambda: os.write(write, Owner.current().alias.encode())) as maker:
        owner = written(read)
        assert owner.claim != Owner.current().claim
        assert not owner.is_gone()
        assert not Owner.current().is_gone()
        maker.kill()
        assert owner.is_gone()


@pytest.mark.parametrize("go_on", [lambda: None, lambda: os.closerange(3, 1000)], ids=["plain", "closes descriptors"])
def test_a_daemon_holds_what_its_parent_claimed(pipe: tuple[int, int], go_on: Callable[[], None]) -> None:
    read, write = pipe
    with Daemon(lambda: os.write(write, Owner.current().alias.encode()), go_on) as daemon:
        owner = written(read)
        assert owner.pid == daemon.maker
        assert owner.has_ended()
        assert not owner.is_gone()
        daemon.kill()
        assert owner.is_gone()


def test_a_claim_costs_no_descriptor() -> None:
    before = Resources.now().fds
    claim_make()
    assert Resources.now().fds == before


def test_a_claim_that_cannot_be_looked_up_is_not_free() -> None:
    known = Owner.current().claim
    file, _, byte = known.partition("-")
    assert claim_is_free(f"{file}-{int(byte, 16) ^ 1:016x}")  # the control: a byte that nobody locked
    assert not claim_is_free(known)
    assert not claim_is_free(f"{int(file, 16) ^ 1:016x}-{int(byte, 16) ^ 1:016x}")  # of another file
    for text in ("", "-", file, f"{file}-", f"{file}-{'f' * 16}", f"{file}-{byte}0", f"{file}-{'x' * 16}"):
        assert not claim_is_free(text), text


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    both = os.pipe()
    yield both
    for fd in both:
        os.close(fd)


def written(fd: int) -> Owner:
    owner = Owner.of(os.read(fd, 1000).decode())
    assert owner is not None
    return owner
