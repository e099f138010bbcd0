"""Where the ends of a pair can live, what they can be called, and that programs stay on them wherever they go."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Iterator

import pytest

from elsewhere import has
from netkit_bpf import BPFObject, NetkitPair, NetNS, Policy, Side, orphans, pairs
from netkit_bpf.command import main
from programs import VERDICTS, load
from traffic import End, ping

SHORT, PATIENCE = 0.2, 20.0  # seconds without an answer, and for one


def names(netns: NetNS) -> set[str]:
    return {name for _, name in netns.call(socket.if_nameindex)} - {"lo"}


@pytest.fixture
def spaces() -> Iterator[dict[str, NetNS]]:
    """The one that the caller is in, and two others."""
    with NetNS.create() as here, NetNS.create() as second, NetNS.create("nk-test-third") as third:
        yield {"here": here, "second": second, "third": third}


@pytest.mark.parametrize("far", [None, "here", "second", "third"])
@pytest.mark.parametrize("near", [None, "second"])
def test_a_pair_lives_where_it_was_asked_to_and_is_seen_rightly_from_either_end(
    spaces: dict[str, NetNS], near: str | None, far: str | None
) -> None:
    """Not asked: where the caller is, and the peer where the primary is."""

    def create() -> NetkitPair:
        return NetkitPair.create(
            netns=spaces[near] if near else None,
            peer_netns=spaces[far] if far else None,
            policy="blackhole",
            peer_scrub="default" if has("scrub") else None,
            mtu=1400,
            peer_mtu=1300,
        )

    near_end = spaces[near or "here"]
    far_end = spaces[far] if far else near_end
    with spaces["here"].call(create) as pair:
        assert {end for end in spaces.values() if "nk0" in names(end)} == {near_end}
        assert {end for end in spaces.values() if "nk0p" in names(end)} == {far_end}
        for opened in (NetkitPair.open("nk0", near_end), NetkitPair.open("nk0p", far_end)):
            assert (opened.primary.netns, opened.peer.netns) == (near_end, far_end)
            assert (opened.primary.ifindex, opened.peer.ifindex) == (pair.primary.ifindex, pair.peer.ifindex)
            assert (opened.policy, opened.peer_policy) == (Policy.BLACKHOLE, Policy.FORWARD)
            assert (opened.scrub, opened.peer_scrub) == ("none" if has("scrub") else "default", "default")
            assert (opened.primary.mtu, opened.peer.mtu) == (1400, 1300)
            assert opened.primary.is_up
            assert opened.peer.is_up
        for end in (near_end, far_end):
            assert [(each.primary.name, each.peer.name) for each in pairs(end)] == [("nk0", "nk0p")]
    assert not any(names(end) for end in spaces.values())


@pytest.fixture
def obj() -> Iterator[BPFObject]:
    with load(VERDICTS) as loaded:
        yield loaded


def test_programs_stay_attached_while_both_ends_are_renamed_and_moved(spaces: dict[str, NetNS], obj: BPFObject) -> None:
    here, second, third = spaces.values()
    with NetkitPair.create(netns=here, peer_netns=second) as pair:
        left, right = End(here, "10.42.0.1"), End(second, "10.42.0.2")

        def answers(wait: float = SHORT) -> int:
            pair.primary.up()
            pair.peer.up()
            for end, device in ((left, pair.primary), (right, pair.peer)):
                end.netns = device.netns
                if not device.addresses:
                    device.add_address(f"{end.address}/24")
            return ping(left, right, [56], timeout=wait)

        with pair.attach(obj.programs["drop"], "primary") as first, pair.attach(obj.programs["first"], "peer") as other:
            assert answers() == 0
            pair.primary.rename("front")
            pair.peer.rename("back")
            assert answers() == 0
            pair.primary.move(third)
            assert answers() == 0
            pair.peer.move(here)
            assert answers() == 0
            assert first.is_attached
            assert other.is_attached
            assert [each.link_id for each in pair.programs("primary").programs] == [first.id]
            assert [each.link_id for each in pair.programs("peer").programs] == [other.id]
            first.update(obj.programs["pass"])
            assert answers(PATIENCE) == 1
            with pair.attach(obj.programs["second"], "peer", before=other):
                assert [each.name for each in pair.programs("peer").programs] == ["second", "first"]
        assert (pair.primary.name, pair.peer.name) == ("front", "back")
        assert not any(pair.programs(side).programs for side in Side)


@pytest.mark.parametrize("name", ["x" * 15, "é" * 7, "日本語日本", "🦀-_.,;", "0"])
def test_a_name_of_any_kind_is_given_found_and_changed(netns: NetNS, name: str) -> None:
    with NetkitPair.create(name, peer_name="other", netns=netns) as pair:
        assert names(netns) == {name, "other"}
        assert pair.primary.name == name
        assert NetkitPair.open(name, netns).peer.ifindex == pair.peer.ifindex
        with pytest.raises(FileExistsError, match=f"a device named {name} or somebody is there already"):
            NetkitPair.create(name, peer_name="somebody", netns=netns)
        pair.primary.rename("plain")
        pair.peer.rename(name)
        assert names(netns) == {name, "plain"}
        assert [each.peer.name for each in pairs(netns)] == [name]


def test_names_and_aliases_that_are_no_text_are_shown_marked(
    netns: NetNS, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The kernel takes any bytes; who made such a device is a stranger, and it is taken by its number."""
    netns.run(["ip", "link", "add", os.fsdecode(b"nk\xff"), "type", "netkit"], check=True)  # the peer is called nk0
    netns.run(["ip", "link", "set", "nk0", "name", os.fsdecode(b"\xfe")], check=True)
    netns.run(["ip", "link", "set", os.fsdecode(b"nk\xff"), "alias", os.fsdecode(b"by \x80")], check=True)
    (pair,) = pairs(netns)
    assert (pair.primary.name, pair.peer.name, pair.primary.alias) == ("nk\\xff", "\\xfe", "by \\x80")
    assert orphans(netns) == []
    assert NetkitPair.open(pair.peer.ifindex, netns).primary.ifindex == pair.primary.ifindex
    with pytest.raises(ValueError, match=r"name 'nk\\udcff' is not UTF-8: open a device that has it by its ifindex"):
        NetkitPair.open(os.fsdecode(b"nk\xff"), netns)
    monkeypatch.setattr(sys, "argv", ["netkit-bpf", "pair", "show", "--json", "-n", f"/proc/self/fd/{netns.fileno()}"])
    assert main() == 0
    (shown,) = json.loads(capsys.readouterr().out)
    assert (shown["primary"]["ifname"], shown["peer"]["ifname"]) == ("nk\\xff", "\\xfe")
    pair.primary.rename("nk0")
    assert names(netns) == {"nk0", os.fsdecode(b"\xfe")}
    pair.delete()
    assert names(netns) == set()
