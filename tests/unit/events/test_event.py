"""Packet events, made from records without a kernel."""

from __future__ import annotations

import copy
import json
import pickle
import random
import socket
from ipaddress import IPv4Address, IPv6Address
from random import Random

import pytest

from event_records import FRAGMENT, ICMP, IP, PORTS, PROTOCOL, TCP, VLAN, event
from netkit_bpf import Fragment, PacketEvent, Side


def test_fields_of_an_ipv6_segment() -> None:
    assert event().asdict() == {
        "timestamp_ns": 1_700_000_000_123_456_789,
        "pair_name": "nk0",
        "side": Side.PEER,
        "family": 6,
        "src": IPv6Address("fd00::2"),
        "dst": IPv6Address("fd00::1"),
        "next_header": 6,
        "protocol": 6,
        "src_port": 40000,
        "dst_port": 443,
        "tcp_flags": 0x12,
        "tcp_seq": 0xFEDCBA98,
        "tcp_ack": 0x89ABCDEF,
        "tcp_window": 64240,
        "icmp_type": None,
        "icmp_code": None,
        "icmp_id": None,
        "icmp_seq": None,
        "payload_len": 64,
        "hop_limit": 64,
        "traffic_class": 0xB8,
        "flow_label": 0x12345,
        "fragment": None,
        "length": 118,
        "gso_segs": 1,
        "ethertype": 0x86DD,
        "vlan_id": None,
        "data": None,
    }


def test_text_forms() -> None:
    assert str(event(next_header=58)) == "[peer] IPv6: fd00::2 -> fd00::1 | next=58 len=64 ttl=64"
    assert repr(event()) == "<PacketEvent nk0 [peer] IPv6: fd00::2 -> fd00::1 | next=6 len=64 ttl=64>"
    four = event(
        ip_word=4 << 28, src=bytes([10, 0, 0, 1]), dst=bytes([10, 0, 0, 2]), side=0, ethertype=0x0800, next_header=17
    )
    assert str(four) == "[primary] IPv4: 10.0.0.1 -> 10.0.0.2 | next=17 len=64 ttl=64"
    assert four.src == IPv4Address("10.0.0.1")
    assert four.flow_label is None
    assert str(event(flags=0, ethertype=0x0806, length=42)) == "[peer] Ethernet: ARP (0x0806) | len=42"
    assert str(event(flags=0, ethertype=0x88CC)) == "[peer] Ethernet: 0x88cc | len=118"


def test_what_does_not_apply_is_none() -> None:
    bare = event(flags=0)
    applies = {name for name, value in bare.asdict().items() if value is not None}
    assert applies == {"timestamp_ns", "pair_name", "side", "length", "gso_segs", "ethertype"}


def test_fields_that_share_room_are_told_apart() -> None:
    icmp = event(flags=IP | PROTOCOL | ICMP, src_port=129, dst_port=3)
    assert (icmp.icmp_type, icmp.icmp_code, icmp.src_port, icmp.tcp_flags) == (129, 3, None, None)
    assert event(flags=IP | FRAGMENT, fragment=1448 | 1).fragment == Fragment(offset=1448, more=True)
    assert event(flags=IP | FRAGMENT, fragment=0).fragment == Fragment(offset=0, more=False)
    assert event(flags=IP | VLAN, vlan_tci=0xE064).vlan_id == 100
    assert event(gso_segs=31).gso_segs == 31


def test_json_is_one_line_with_the_same_fields() -> None:
    text = event(flags=IP | PROTOCOL | PORTS | TCP | FRAGMENT, fragment=9).to_json()
    assert "\n" not in text
    parsed = json.loads(text)
    assert list(parsed) == list(event().asdict())
    assert (parsed["src"], parsed["side"], parsed["vlan_id"]) == ("fd00::2", "peer", None)
    assert parsed["fragment"] == {"offset": 8, "more": True}


def test_events_are_immutable_values() -> None:
    first, second = event(), event()
    assert first == second
    assert hash(first) == hash(second)
    assert first != event(hop_limit=63)
    assert first != "an event"
    assert copy.copy(first) == copy.deepcopy(first) == pickle.loads(pickle.dumps(first)) == first
    with pytest.raises(AttributeError):
        first.length = 1  # type: ignore[misc]
    with pytest.raises(AttributeError):
        first.anything = 1  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match="cannot create"):
        PacketEvent()


def test_events_can_be_matched() -> None:
    match event():
        case PacketEvent(side="peer", dst_port=443, src=source):
            assert source == IPv6Address("fd00::2")
        case _:
            pytest.fail("no match")


def test_a_record_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="a record has 88 bytes, not 71"):
        PacketEvent._from_record(bytes(71), "nk0")


def test_the_longest_line_is_not_cut() -> None:
    long = event(src=b"\xff" * 16, dst=b"\xff" * 16, payload_len=0xFFFFFFFF, hop_limit=255, next_header=255, side=0)
    ones = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
    assert str(long) == f"[primary] IPv6: {ones} -> {ones} | next=255 len=4294967295 ttl=255"


def test_addresses_are_written_as_inet_ntop_does() -> None:
    """Words that are zero more often than not, so that runs of zeros of every length and place come up."""
    choose = random.Random(7)
    words = [0, 0, 0, 1, 0xFFFF, 0xA0, 0x1234]
    packed = [b"".join(choose.choice(words).to_bytes(2, "big") for _ in range(8)) for _ in range(20_000)]
    packed += [
        bytes(10) + b"\xff\xff" + bytes(range(4)),
        bytes(12) + b"\x01\x02\x03\x04",
        bytes(16),
        bytes(15) + b"\x01",
    ]
    for source in packed:
        line = str(event(src=source, dst=source[::-1]))
        src, dst = (socket.inet_ntop(socket.AF_INET6, address) for address in (source, source[::-1]))
        assert line == f"[peer] IPv6: {src} -> {dst} | next=6 len=64 ttl=64"
    for source in packed[:1000]:
        src = socket.inet_ntop(socket.AF_INET, source[:4])
        assert f" IPv4: {src} -> " in str(event(src=source, ip_word=4 << 28))


def test_events_are_ordered_by_time() -> None:
    early, late = event(timestamp=1, length=999), event(timestamp=2)
    assert early < late
    assert late > early
    assert early <= event(timestamp=1) >= early
    assert sorted([late, early]) == [early, late]
    with pytest.raises(TypeError, match="not supported between"):
        early < 1  # type: ignore[operator] # noqa: B015


def test_what_was_captured_belongs_to_the_event() -> None:
    captured = bytes(range(100))
    without, with_data, short = event(length=118), event(length=118, data=captured), event(length=118, data=b"x")
    assert (without.data, with_data.data, short.data) == (None, captured, b"x")
    assert len({without, with_data, short}) == 3
    for made in (with_data, short):
        again = pickle.loads(pickle.dumps(made))
        assert (again, again.data, hash(again)) == (made, made.data, hash(made))
        assert json.loads(made.to_json())["data"] == (made.data or b"").hex()


def test_events_that_are_kept_stay_as_they_are() -> None:
    """Freed events are used again: never one that somebody holds."""
    kept = {}
    for number in range(2000):
        made = event(timestamp=number)
        if number % 3 == 0:
            kept[made] = number
    assert [each.timestamp_ns for each in kept] == list(kept.values()) == list(range(0, 2000, 3))


def test_values_that_were_made_lately_are_not_mixed_up() -> None:
    random = Random(1)
    for _ in range(20_000):
        src, dst = random.randbytes(16), random.choice([bytes(15), random.randbytes(15)]) + random.randbytes(1)
        port, length = random.randrange(1 << 16), random.choice([random.randrange(3000), random.randrange(1 << 32)])
        version = random.choice([4, 6])
        made = event(src=src, dst=dst, src_port=port, length=length, ip_word=version << 28)
        address = IPv6Address if version == 6 else IPv4Address
        size = 16 if version == 6 else 4
        assert (made.src, made.dst) == (address(src[:size]), address(dst[:size]))
        assert (made.src_port, made.length, made.timestamp_ns) == (port, length, event().timestamp_ns)


def test_the_type_cannot_be_changed() -> None:
    with pytest.raises(TypeError, match="immutable type"):
        PacketEvent.src = None  # type: ignore[assignment,method-assign]
    with pytest.raises(AttributeError, match="no_such"):
        event().no_such  # type: ignore[attr-defined] # noqa: B018
