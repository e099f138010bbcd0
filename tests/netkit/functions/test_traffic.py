"""Real traffic over real netkit pairs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest

import scenarios
from netkit_bpf import EventBatch, Monitor, NetkitPair, NetNS, PacketEvent, Side
from traffic import End, Wire, collect, connect_and_send, ping, send_datagrams

ADDRESSES = {4: ("10.42.0.1/24", "10.42.0.2/24"), 6: ("fd00::1/64", "fd00::2/64")}


@pytest.fixture(params=["l3", "l2"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def across(mode: str, version: int) -> Iterator[Wire]:
    """The peer in a namespace of its own."""
    with (
        NetNS.create() as here,
        NetNS.create() as there,
        NetkitPair.create("nk0", mode=mode, netns=here, peer_netns=there) as pair,
    ):
        left, right = ADDRESSES[version]
        pair.primary.add_address(left)
        pair.peer.add_address(right)
        yield Wire(pair, End(here, left.split("/")[0]), End(there, right.split("/")[0]))


def within(mode: str) -> Iterator[Wire]:
    """Both ends in one namespace, where only link-local addresses do not take the way over lo."""
    with NetNS.create() as here, NetkitPair.create("nk0", mode=mode, netns=here) as pair:
        left, right = pair.add_link_local()
        yield Wire(pair, End(here, str(left.ip), pair.primary.ifindex), End(here, str(right.ip), pair.peer.ifindex))


@pytest.fixture(params=["IPv6 across", "IPv4 across", "IPv6 within"])
def wire(request: pytest.FixtureRequest, mode: str) -> Iterator[Wire]:
    if request.param == "IPv6 within":
        yield from within(mode)
    else:
        yield from across(mode, 6 if request.param == "IPv6 across" else 4)


@pytest.mark.parametrize("scenario", scenarios.ALL, ids=lambda scenario: scenario.__name__)
def test_on_netkit(scenario: Callable[[Wire], None], wire: Wire) -> None:
    scenario(wire)


def test_neighbour_discovery_and_mld_are_recognised() -> None:
    for wire in across("l2", 6):
        with Monitor(wire.pair) as monitor:
            group = wire.right.socket(2)  # SOCK_DGRAM
            with group:
                joining = b"\xff\x02" + bytes(11) + b"\x01\x02\x03" + wire.pair.peer.ifindex.to_bytes(4, "little")
                group.setsockopt(41, 20, joining)  # IPPROTO_IPV6, IPV6_JOIN_GROUP
                assert ping(wire.left, wire.right, [56]) == 1
            events = collect(monitor)
    kinds = {(event.side, event.icmp_type) for event in events if event.protocol == 58}
    assert (Side.PRIMARY, 135) in kinds  # neighbour solicitation
    assert (Side.PEER, 136) in kinds  # neighbour advertisement
    reports = [event for event in events if event.icmp_type == 143]  # MLDv2 (RFC 3810)
    assert reports
    for report in reports:
        assert (report.next_header, report.protocol) == (0, 58)  # behind a router alert
        assert report.hop_limit == 1
        assert str(report.dst) == "ff02::16"


def test_arp_is_an_event_in_l2_mode() -> None:
    for wire in across("l2", 4):
        with Monitor(wire.pair) as monitor:
            assert ping(wire.left, wire.right, [56]) == 1
            arp = [event for event in collect(monitor) if event.ethertype == 0x0806]
    assert {event.side for event in arp} == {Side.PRIMARY, Side.PEER}
    assert all((event.family, event.src, event.protocol) == (None, None, None) for event in arp)
    assert str(arp[0]) == "[primary] Ethernet: ARP (0x0806) | len=42"


@pytest.mark.parametrize("version", [4, 6])
def test_a_bulk_transfer_is_seen_as_large_packets_that_stand_for_many(mode: str, version: int) -> None:
    amount = 2_000_000
    for wire in across(mode, version):
        with Monitor(wire.pair, ring_size=1 << 20) as monitor:
            ports = connect_and_send(wire.left, wire.right, amount)
            events = collect(monitor)
            assert monitor.stats.total.lost == 0
    sent = [event for event in events if event.side is Side.PRIMARY and event.protocol == 6]
    assert all((event.src_port, event.dst_port) == ports for event in sent)
    large = [event for event in sent if event.length > 1514]
    assert large
    header = 40 if version == 6 else 20
    for event in large:
        assert event.gso_segs > 1
        assert event.payload_len == event.length - 14 - header
    payload = sum(event.length - 14 - header - 32 for event in sent if event.length > 14 + header + 40)
    assert payload >= amount  # more if something was sent again


def test_a_datagram_that_must_be_fragmented_is_seen_in_fragments(mode: str) -> None:
    for wire in across(mode, 6):
        with Monitor(wire.pair) as monitor:
            ports = send_datagrams(wire.left, wire.right, [4000])
            events = [event for event in collect(monitor) if event.next_header == 44]
    assert [event.fragment for event in events] == [(0, True), (1448, True), (2896, False)]
    assert [event.protocol for event in events] == [17, 17, 17]
    assert (events[0].src_port, events[0].dst_port) == ports
    assert all(event.src_port is None for event in events[1:])


def test_timestamps_are_unix_time_and_in_order() -> None:
    import time

    for wire in across("l3", 6):
        with Monitor(wire.pair, sides=["primary"]) as monitor:
            before = time.time_ns()
            send_datagrams(wire.left, wire.right, [1] * 20)
            after = time.time_ns()
            stamps = [event.timestamp_ns for event in collect(monitor) if event.protocol == 17]
    assert len(stamps) == 20
    assert stamps == sorted(stamps)
    slack = 1_000_000  # of the offset between the two clocks
    assert before - slack <= stamps[0] <= stamps[-1] <= after + slack


def test_several_pairs_share_one_monitor() -> None:
    with NetNS.create() as here:
        with NetkitPair.create("nk0", netns=here) as first, NetkitPair.create("nk1", netns=here) as second:
            with Monitor(first, second) as monitor:
                for pair in (first, second, first):
                    left, right = pair.add_link_local()
                    wire = Wire(
                        pair, End(here, str(left.ip), pair.primary.ifindex), End(here, str(right.ip), pair.peer.ifindex)
                    )
                    send_datagrams(wire.left, wire.right, [100, 200])
                events = [event for event in collect(monitor) if event.protocol == 17]
    assert [event.pair_name for event in events] == ["nk0", "nk0", "nk1", "nk1", "nk0", "nk0"]


def test_a_vlan_tag_beside_the_packet_is_seen() -> None:
    """The tag that a VLAN device leaves to its lower device travels in the skb, not in the frame."""
    for wire in across("l2", 6):
        ends = []
        for end, device, address in ((wire.left, "nk0", "fd01::1"), (wire.right, "nk0p", "fd01::2")):
            name = f"{device}.7"
            end.netns.run(["ip", "link", "add", "link", device, "name", name, "type", "vlan", "id", "7"], check=True)
            end.netns.run(["ip", "address", "add", f"{address}/64", "dev", name, "nodad"], check=True)
            end.netns.run(["ip", "link", "set", name, "up"], check=True)
            ends.append(End(end.netns, address))
        with Monitor(wire.pair) as monitor:
            ports = send_datagrams(ends[0], ends[1], [100])
            event = next(event for event in collect(monitor) if event.protocol == 17)
        assert (event.vlan_id, event.ethertype, event.family) == (7, 0x86DD, 6)
        assert (event.src_port, event.dst_port) == ports
        assert event.length == 14 + 40 + 108  # the tag is not in the frame


def test_batches_and_tasks_read_what_crosses_a_pair() -> None:
    sizes = [10, 20, 30]
    awaited: list[PacketEvent] = []

    async def read(monitor: Monitor) -> None:
        async for event in monitor:
            if event.protocol == 17:
                awaited.append(event)
            if len(awaited) == len(sizes):
                break

    for wire in across("l3", 6):
        with Monitor(wire.pair, sides=["primary"]) as monitor:
            send_datagrams(wire.left, wire.right, sizes)
            batch = EventBatch.concat(monitor.batches(timeout=0.5))
            assert [event.payload_len for event in batch if event.protocol == 17] == [8 + size for size in sizes]
            assert monitor.stats.primary.delivered == len(batch)
            send_datagrams(wire.left, wire.right, sizes)
            asyncio.run(asyncio.wait_for(read(monitor), 20))
            assert [event.payload_len for event in awaited] == [8 + size for size in sizes]
