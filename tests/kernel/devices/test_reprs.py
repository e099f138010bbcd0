"""What an object says of itself: which it is, and what became of it. It never raises, whoever asks and whenever."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from netkit_bpf import Device, NetkitPair, NetNS
from unprivileged import unprivileged
from veth import veth_pair

NAME = "nk-test-repr"


@pytest.fixture
def spaces() -> Iterator[tuple[NetNS, NetNS]]:
    with NetNS.create() as here, NetNS.create(NAME) as there:
        yield here, there


def test_a_pair_tells_its_ends_and_where_they_are(spaces: tuple[NetNS, NetNS]) -> None:
    here, there = spaces
    with veth_pair(here, there) as pair:
        assert repr(pair) == f"<NetkitPair ve0 in net:[{here.inode}], ve1 in {NAME} net:[{there.inode}]>"
        assert repr(pair.peer) == f"<Device ve1 ifindex={pair.peer.ifindex} in {NAME} net:[{there.inode}]>"
        assert unprivileged(lambda: repr(pair)) == repr(repr(pair))
        pair.delete()
        assert repr(pair).endswith("] deleted>")
        assert repr(pair.primary).endswith("] deleted or moved>")
    with veth_pair(here, here) as pair:
        assert repr(pair) == f"<NetkitPair ve0, ve1 in net:[{here.inode}]>"


def test_a_pair_whose_primary_somebody_moved_says_so(spaces: tuple[NetNS, NetNS]) -> None:
    here, there = spaces
    with veth_pair(here, there) as pair:
        here.run(["ip", "link", "set", "ve0", "netns", NAME], check=True)
        assert repr(pair).endswith(", whose primary was moved away>")


def test_what_lived_in_a_deleted_namespace_says_so(spaces: tuple[NetNS, NetNS]) -> None:
    here, there = spaces
    with veth_pair(here, there) as pair:
        there.delete()
        assert repr(there) == f"<NetNS {NAME} net:[{there.inode}] deleted>"
        assert repr(pair.peer) == f"<Device ve1 ifindex={pair.peer.ifindex} in {NAME} net:[{there.inode}] deleted>"
        here.delete()
        assert f"ve0 in net:[{here.inode}] deleted, ve1 in {NAME} net:[{there.inode}] deleted" in repr(pair)


def test_a_namespace_that_is_not_held_any_more_says_so() -> None:
    with NetNS.create(NAME) as made, NetNS.open(NAME) as opened:
        assert repr(opened) == f"<NetNS {NAME} net:[{made.inode}]>"
        lo = Device.open("lo", opened)
    assert repr(opened) == f"<NetNS {NAME} net:[{made.inode}] closed>"
    assert repr(lo) == f"<Device lo ifindex=1 in {NAME} net:[{made.inode}] closed>"
    with pytest.raises(subprocess.CalledProcessError):
        subprocess.run(["ip", "netns", "exec", NAME, "true"], check=True, stderr=subprocess.DEVNULL)


def test_an_opened_pair_does_not_look_for_its_peer_to_show_itself(spaces: tuple[NetNS, NetNS]) -> None:
    here, _ = spaces
    pair = NetkitPair(Device.open("lo", here), None, owned=False)
    assert repr(pair) == f"<NetkitPair lo in net:[{here.inode}], its peer elsewhere>"
