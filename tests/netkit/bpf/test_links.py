"""Programs on the hooks of real netkit pairs: what the driver's own tests try, through the public API."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

import swapping
from elsewhere import needs_scrub, only_where
from examples import example
from netkit_bpf import BPFObject, HookPrograms, Mode, NetkitDevice, NetkitPair, NetNS, Side, _core
from netkit_bpf.internal import kernel_release
from programs import WITNESSES, build, load
from traffic import End, Wire, ping, send_datagrams

HOST, MULTICAST = 0, 2  # PACKET_HOST, PACKET_MULTICAST: linux/if_packet.h
SHORT = 0.2


@contextmanager
def netkit_wire(**options: object) -> Iterator[Wire]:
    with NetNS.create() as here, NetNS.create() as there:
        with NetkitPair.create("nk0", netns=here, peer_netns=there, **options) as pair:  # type: ignore[arg-type]
            pair.primary.add_address("10.42.0.1/24")
            pair.peer.add_address("10.42.0.2/24")
            yield Wire(pair, End(here, "10.42.0.1"), End(there, "10.42.0.2"))


@pytest.fixture(params=["l2", "l3"])
def wire(request: pytest.FixtureRequest) -> Iterator[Wire]:
    with netkit_wire(mode=request.param) as made:
        yield made


@pytest.fixture
def obj() -> Iterator[BPFObject]:
    with load(WITNESSES) as loaded:
        yield loaded


def seen(obj: BPFObject) -> tuple[int, int]:
    return obj.variables["first_saw"].value, obj.variables["second_saw"].value


def test_a_program_on_each_side_sees_what_that_side_sends(wire: Wire, obj: BPFObject) -> None:
    pair = wire.pair
    with pair.attach(obj.programs["first"], "primary") as primary:
        assert pair.programs("primary") == HookPrograms(2, ((obj.programs["first"].id, "first", primary.id),))  # type: ignore[arg-type]
        assert pair.programs("peer") == HookPrograms(None, ())
        assert ping(wire.left, wire.right, [56]) == 1
        after_one = seen(obj)
        assert after_one[0] > 0
        assert after_one[1] == 0
        with pair.attach(obj.programs["second"], "peer") as peer:
            assert pair.programs("peer") == HookPrograms(2, ((obj.programs["second"].id, "second", peer.id),))  # type: ignore[arg-type]
            assert (primary.side, peer.side) == (Side.PRIMARY, Side.PEER)
            assert ping(wire.left, wire.right, [56]) == 1
        assert seen(obj)[0] > after_one[0]
        assert seen(obj)[1] > 0
    assert pair.programs("primary") == HookPrograms(None, ())


@pytest.mark.parametrize("side", list(Side))
def test_a_program_goes_before_another_and_both_see_the_packet(wire: Wire, obj: BPFObject, side: Side) -> None:
    with wire.pair.attach(obj.programs["second"], side) as second:
        with wire.pair.attach(obj.programs["first"], side, before=second) as first:
            revision, programs = wire.pair.programs(side)
            assert revision == 3
            assert [each.link_id for each in programs] == [first.id, second.id]
            assert ping(wire.left, wire.right, [56]) == 1
            assert min(seen(obj)) > 0
        assert wire.pair.programs(side).revision == 4


def test_hooks_are_reached_through_the_primary_alone(wire: Wire, obj: BPFObject) -> None:
    pair = wire.pair
    from_the_peer = NetkitPair(pair.peer, pair.primary, owned=False)
    tries: list[Callable[[], object]] = [
        lambda: from_the_peer.attach(obj.programs["first"], "peer"),
        lambda: from_the_peer.programs("primary"),
    ]
    for attempt in tries:
        with pytest.raises(PermissionError, match=f"ifindex {pair.peer.ifindex} is the peer's") as caught:
            attempt()
        assert caught.value.errno == errno.EACCES


def test_a_device_that_is_no_netkit_device_is_named_with_its_kind(obj: BPFObject) -> None:
    with NetNS.create() as netns:
        with pytest.raises(OSError, match="lo is a plain device, not a netkit device") as caught:
            _core.Link(obj.programs["first"]._open(), (netns._open(), "lo", 1, "", 0), (0, 0, False, 0), 0)
        assert caught.value.errno == errno.ENXIO


def test_a_single_device_takes_no_programs(obj: BPFObject) -> None:
    only_where(kernel_release.is_at_least("7.1"), "Linux 7.1 or later")
    with NetNS.create() as netns, NetkitDevice.create("single", netns=netns) as single:
        for side in Side:
            with pytest.raises(OSError, match="this is a single netkit device; only pairs take programs") as caught:
                NetkitPair(single, None, owned=False).attach(obj.programs["first"], side)
            assert caught.value.errno == errno.EOPNOTSUPP


def test_after_the_last_detach_the_revision_is_not_told_and_need_not_be(wire: Wire, obj: BPFObject) -> None:
    """The kernel says 1 of an empty hook while the real counter went on: nobody may trust it."""
    wire.pair.attach(obj.programs["first"], "peer").close()
    assert wire.pair.programs("peer").revision is None
    with pytest.raises(OSError, match="ESTALE: expected revision 1, found an empty hook"):
        wire.pair.attach(obj.programs["first"], "peer", expected_revision=1)
    expected = wire.pair.programs("peer").revision
    with wire.pair.attach(obj.programs["first"], "peer", expected_revision=expected):
        assert wire.pair.programs("peer").revision == 4


def test_a_link_names_the_hook_it_was_opened_for(wire: Wire, obj: BPFObject) -> None:
    with wire.pair.attach(obj.programs["first"], "peer") as link:
        assert link._core.info()[3] == wire.pair.peer.ifindex  # the kernel's word for it, in the peer's namespace
        assert link.is_attached
        wire.pair.delete()
        assert not link.is_attached
        link.detach()
        with pytest.raises(OSError, match="the device is gone") as caught:
            link.update(obj.programs["second"])
        assert caught.value.errno == errno.ENOLINK


def test_an_unresolved_neighbour_is_asked_for_in_l2_and_met_in_l3(wire: Wire, obj: BPFObject) -> None:
    with wire.pair.attach(obj.programs["sort"], "primary"), wire.left.socket(socket.SOCK_DGRAM) as out:
        out.sendto(b"nobody is there", ("10.42.0.99", 9))
        arp, ipv4 = obj.variables["arp"].value, obj.variables["ipv4"].value
    if wire.pair.mode is Mode.L2:
        assert arp > 0
        assert ipv4 == 0
    else:
        assert (arp, ipv4) == (0, 1)


def test_the_type_that_a_program_gives_a_packet_arrives_and_its_mac_address_alone_gives_none(obj: BPFObject) -> None:
    """The driver looks at the destination before the programs run, as tcx does (6.10)."""
    program, packet_type = obj.programs, obj.variables["packet_type"]
    with netkit_wire(mode="l2") as wire, wire.pair.peer.attach(program["witness"], "ingress"):
        with wire.pair.attach(program["write_group"], "primary"):
            send_datagrams(wire.left, wire.right, [10])
            assert packet_type.value == HOST
            with wire.pair.attach(program["make_multicast"], "primary"):
                ping(wire.left, wire.right, [56], timeout=SHORT)
                assert packet_type.value == MULTICAST


@needs_scrub
@pytest.mark.parametrize("scrub", ["none", "default"])
def test_mark_and_priority_survive_where_nothing_is_scrubbed(obj: BPFObject, scrub: str) -> None:
    """Where the kernel can, with head- and tailroom as the driver's own test has it."""
    options: dict[str, object] = {"scrub": scrub, "peer_scrub": scrub}
    if kernel_release.is_at_least("6.14"):
        options |= {"headroom": 32, "tailroom": 8}
    with netkit_wire(**options) as wire, wire.pair.peer.attach(obj.programs["witness"], "ingress"):
        assert (wire.pair.headroom, wire.pair.tailroom) == (options.get("headroom", 0), options.get("tailroom", 0))
        with wire.left.socket(socket.SOCK_DGRAM) as out:
            out.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 42)
            out.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, 12)
            out.sendto(b"marked", ("10.42.0.2", 9))
        assert obj.variables["witnessed"].value == 1
        kept = obj.variables["mark"].value, obj.variables["priority"].value
        assert kept == ((42, 12) if scrub == "none" else (0, 0))


def test_a_packet_is_redirected_from_tc_ingress_to_the_peer_of_another_pair() -> None:
    """From a container by its pair to the host, and there at once into a second container."""
    with ExitStack() as stack:
        host, sender, receiver = (stack.enter_context(NetNS.create()) for _ in range(3))
        first = stack.enter_context(NetkitPair.create("nk0", netns=host, peer_netns=sender))
        second = stack.enter_context(NetkitPair.create("nk1", netns=host, peer_netns=receiver))
        first.peer.add_address("10.42.0.2/24")
        second.peer.add_address("10.42.0.3/24")
        obj = BPFObject.open(build(WITNESSES))
        obj.variables["target"].value = second.primary.ifindex
        stack.enter_context(obj)
        stack.enter_context(first.primary.attach(obj.programs["to_the_peer"], "ingress"))
        out = stack.enter_context(End(sender, "10.42.0.2").socket(socket.SOCK_DGRAM))
        into = stack.enter_context(End(receiver, "10.42.0.3").socket(socket.SOCK_DGRAM))
        into.bind(("10.42.0.3", 0))
        out.sendto(b"redirected", into.getsockname())
        assert into.recv(64) == b"redirected"


def test_each_packet_meets_exactly_one_of_two_programs_that_are_swapped() -> None:
    with netkit_wire() as wire:
        swapping.each_packet_meets_exactly_one_of_two_programs(wire)


def test_the_classic_example_drops_a_port_and_then_another() -> None:
    drop_port = example("drop_port")
    with netkit_wire() as wire, load(drop_port.SOURCE) as obj:
        found = drop_port.drop_one_then_the_other(obj, wire.pair, wire.left.netns, wire.right.netns, wire.left.address)
    assert found == [[12345, 12346], [12346], [12345], [12345, 12346]]
