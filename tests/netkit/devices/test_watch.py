"""Watching real netkit pairs, and waiting until an end is ready."""

from __future__ import annotations

import time
from itertools import takewhile
from pathlib import Path

import pytest

from netkit_bpf import NetkitPair, NetNS

PATIENCE = 20.0  # seconds: far longer than anything takes
PROMISED = 1.0


def test_the_life_of_a_pair_is_told_to_its_end() -> None:
    with NetNS.create() as here, NetNS.create("nk-test-watch") as there:
        with NetkitPair.create(netns=here, peer_netns=there) as pair, pair.watch() as watch:
            pair.peer.down()
            pair.peer.rename("other")
            pair.primary.move(there)
            until_moved = [
                str(change) for change in takewhile(lambda change: change.netns is None, watch.events(timeout=PATIENCE))
            ]
            pair.primary.up()  # where it is now, it is followed
            there.run(["ip", "link", "delete", "other"], check=True)
            after = [
                str(change) for change in watch.events(timeout=PATIENCE)
            ]  # ends by itself: nothing can come any more
        assert until_moved == ["[peer] nk0p down", "[peer] other renamed", "[primary] nk0 down"]
        assert after == ["[primary] nk0 up", "[primary] nk0 down", "[primary] nk0 deleted", "[peer] other deleted"]


def test_a_change_of_either_policy_is_told_of_the_primary() -> None:
    with NetNS.create() as here, NetNS.create() as there:
        with NetkitPair.create(netns=here, peer_netns=there) as pair, pair.watch() as watch:
            pair.set_policy("blackhole", side="peer")
            pair.set_policy("blackhole", side="peer")  # no change
            pair.set_policy("blackhole")
            pair.peer.down()
            told = [str(change) for change in watch.events(timeout=PATIENCE, count=3)]
            assert told == ["[primary] nk0 policy", "[primary] nk0 policy", "[peer] nk0p down"]


def test_the_end_of_the_peers_namespace_is_told_in_time() -> None:
    gone = NetNS.create()
    with NetNS.create() as here, NetkitPair.create(netns=here, peer_netns=gone) as pair:
        with pair.watch() as watch:
            start = time.monotonic()
            gone.delete()
            deleted = [str(change) for change in watch.events(timeout=PATIENCE) if change.kind == "deleted"]
            assert time.monotonic() - start < PROMISED
            assert deleted == ["[primary] nk0 deleted", "[peer] nk0p deleted"]


@pytest.mark.parametrize("mode", ["l2", "l3"])
def test_an_end_is_ready_once_both_are_up_and_its_addresses_may_be_used(mode: str) -> None:
    with NetNS.create() as here, NetkitPair.create(mode=mode, netns=here, up=False) as pair:
        pair.primary.up()
        with pytest.raises(TimeoutError, match=r"nk0 is not ready after 0 s: it has no carrier: is the other end up\?"):
            pair.primary.wait_ready(0)
        pair.peer.up()
        pair.primary.wait_ready(PATIENCE)
        pair.primary.add_address("fd00::1/64", nodad=False)
        pair.primary.wait_ready(PATIENCE)


def test_duplicates_are_looked_for_where_that_is_switched_on() -> None:
    """When a netkit device is registered, IPv6 takes it for one without neighbours, also in L2: conf/nk0/accept_dad."""
    with NetNS.create() as here, NetkitPair.create(mode="l2", netns=here) as pair:
        accept_dad = Path("/proc/sys/net/ipv6/conf/nk0/accept_dad")
        assert here.call(accept_dad.read_text) == "-1\n"
        here.call(accept_dad.write_text, "1")
        pair.primary.wait_ready(PATIENCE)
        pair.primary.add_address("fd00::1/64", nodad=False)
        with pytest.raises(TimeoutError, match="duplicate address detection of fd00::1/64 has not finished"):
            pair.primary.wait_ready(0)
        pair.primary.wait_ready(PATIENCE)
