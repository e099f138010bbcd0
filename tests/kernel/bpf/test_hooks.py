"""Hooks as objects of their own, on the tcx hooks of a veth pair."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest

from elsewhere import needs_tcx
from netkit_bpf import BPFObject, Device, Hook, Link, NetkitPair, NetNS
from programs import load
from unprivileged import unprivileged
from veth import veth_pair

pytestmark = needs_tcx


@pytest.fixture
def pair() -> Iterator[NetkitPair]:
    with NetNS.create() as here, NetNS.create() as there, veth_pair(here, there) as made:
        yield made


@pytest.fixture
def obj() -> Iterator[BPFObject]:
    with load() as loaded:
        yield loaded


def test_a_hook_tells_its_programs_and_revision_and_takes_more(pair: NetkitPair, obj: BPFObject) -> None:
    hook = pair.hook("peer")
    assert (hook.device, hook.side, hook.name) == (pair.primary, "peer", "ve0 (peer)")
    assert (hook.programs, hook.revision) == ((), None)
    assert repr(hook) == "<Hook ve0 (peer) empty>"
    with hook.attach(obj.programs["first"]) as first, hook.attach(obj.programs["second"], before=first) as second:
        assert [each.name for each in hook.programs] == ["second", "first"]
        assert [each.link_id for each in hook.programs] == [second.id, first.id]
        assert hook.query() == pair.programs("peer")
        revision = hook.revision
        assert revision is not None
        assert repr(hook) == f"<Hook ve0 (peer) revision={revision}: second, first>"
        with hook.attach(obj.programs["third"], after="all", expected_revision=revision):
            with pytest.raises(OSError, match="ESTALE") as caught:
                hook.attach(obj.programs["drop"], expected_revision=revision)
            assert caught.value.errno == errno.ESTALE
        with pytest.raises(OSError, match=f"link {first.id} holds it"):
            hook.detach(obj.programs["first"])
    assert repr(hook) == "<Hook ve0 (peer) empty>"


def test_the_short_cuts_of_pairs_and_devices_are_the_same_hooks(pair: NetkitPair, obj: BPFObject) -> None:
    with pair.attach(obj.programs["first"], "primary") as link:
        assert link.hook == pair.hook("primary")
        assert link.hook != pair.hook("peer")
        assert {pair.hook("primary"), link.hook} == {pair.hook("primary")}
    device: Device = pair.peer
    with device.attach(obj.programs["first"], "egress") as link:
        assert link.hook == device.hook("egress")
        assert device.programs("egress") == device.hook("egress").query()


def test_a_link_that_is_opened_by_its_pin_has_no_hook(pair: NetkitPair, obj: BPFObject, bpffs: object) -> None:
    path = f"{bpffs}/link"
    with pair.attach(obj.programs["first"], "primary") as link:
        link.pin(path)
        with Link.open_pinned(path) as again:
            assert (again.hook, again.side) == (None, "egress")
            assert repr(again) == f"<Link {link.id} (egress) attached>"
            again.unpin()


def test_a_hook_follows_its_device(pair: NetkitPair, obj: BPFObject) -> None:
    hook = pair.peer.hook("ingress")
    with hook.attach(obj.programs["first"]), NetNS.create() as other:
        pair.peer.rename("renamed")
        pair.peer.move(other)
        assert hook.name == "renamed (ingress)"
        assert [each.name for each in hook.programs] == ["first"]
    assert repr(hook).startswith("<Hook renamed (ingress) unreadable: ")
    with pytest.raises(ValueError, match="this network namespace is deleted"):
        _ = hook.programs


def test_what_is_gone_and_what_may_not_be_read_says_so_in_its_repr(pair: NetkitPair) -> None:
    hook = pair.hook("primary")
    assert unprivileged(lambda: repr(hook)) == repr("<Hook ve0 (primary) unreadable without CAP_NET_ADMIN>")
    pair.delete()
    assert "No such device" in repr(hook)


def test_a_side_that_there_is_not_is_refused(pair: NetkitPair) -> None:
    with pytest.raises(ValueError, match="side must be 'primary' or 'peer', not 'ingress'"):
        pair.hook("ingress")
    with pytest.raises(ValueError, match="direction must be 'ingress' or 'egress', not 'peer'"):
        pair.primary.hook("peer")
    assert isinstance(pair.hook("peer"), Hook)
