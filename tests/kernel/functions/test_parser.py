# SPDX-License-Identifier: MIT
"""The parser reads what is there, and nothing that is not: header by header, length by length, and mutated."""

from __future__ import annotations

import os
import random
import struct
from collections import Counter
from collections.abc import Iterator

import pytest

from corpus import all_packets
from decoder import (
    AUTHENTICATION,
    DESTINATION,
    EXTENSIONS,
    FRAGMENT,
    HOP_BY_HOP,
    ICMPV6,
    IPV4,
    IPV6,
    SERVICE_VLAN,
    TCP,
    UDP,
    VLAN,
    Fields,
    decode,
)
from mutator import Mutator
from native import NEXT, PAIR, PROGRAMS, Native, may_be_refused, on_both_sides
from netkit_bpf import Side, _core
from netkit_bpf.events.event import Fragment, PacketEvent
from packets import (
    NAMES,
    PAYLOAD,
    authentication,
    chained,
    ethernet,
    extension,
    fragment,
    ipv4,
    ipv6,
    options,
    routing,
    tagged,
    tcp,
    udp,
)

GROUPS = all_packets()
PACKETS = [frame for group in GROUPS.values() for frame in group.values()]
MUTATIONS = int(os.environ.get("NETKIT_BPF_MUTATIONS", "100000"))
SEED = int(os.environ.get("NETKIT_BPF_SEED", "8200"))
LARGE = 60_000  # bytes of a frame: more than a page, so that most of it is not linear
JUMBO = 66_000
DROP = 2


def fields(event: PacketEvent, *names: str) -> list[object]:
    return [getattr(event, name) for name in names]


def lengths(frame: bytes) -> Iterator[bytes]:
    """Cut a frame to every length that has an Ethernet header."""
    return (frame[:length] for length in range(14, len(frame) + 1))


@pytest.mark.parametrize("group", GROUPS)
def test_every_length_of_a_packet_is_read_as_far_as_it_goes(native: Native, group: str) -> None:
    for name, frame in GROUPS[group].items():
        native.check(on_both_sides(lengths(frame)), f"on lengths of '{name}'")


@pytest.mark.parametrize("group", GROUPS)
def test_every_length_of_a_tagged_packet_is_read_as_far_as_it_goes(native: Native, group: str) -> None:
    """Behind a tag the kernel refuses no length, so that each IP header is cut everywhere."""
    for name, frame in GROUPS[group].items():
        native.check(on_both_sides(lengths(tagged(frame, 42))), f"on lengths of '{name}' behind a tag")


@pytest.mark.parametrize("family", [4, 6])
def test_every_protocol_number_is_reported(native: Native, family: int) -> None:
    body = random.Random(family).randbytes(64)
    frames = [(ipv4 if family == 4 else ipv6)(number, body) for number in range(256)]
    native.check(on_both_sides(frames))


@pytest.mark.parametrize("number", EXTENSIONS, ids=NAMES.get)
def test_every_protocol_number_is_reported_behind_an_extension_header(native: Native, number: int) -> None:
    body = random.Random(number).randbytes(64)
    native.check(on_both_sides(chained([extension(number)], protocol, body) for protocol in range(256)))


@pytest.mark.parametrize("family", [4, 6])
def test_every_combination_of_tcp_flags_is_reported(native: Native, family: int) -> None:
    for flags in range(256):
        event = native.event((ipv4 if family == 4 else ipv6)(TCP, tcp(flags)))
        assert event.tcp_flags == flags


@pytest.mark.parametrize("family", [4, 6])
def test_every_ethertype_but_its_own_hides_the_ip_header(native: Native, family: int) -> None:
    frame = ipv4(UDP, udp(), options=b"\1" * 20) if family == 4 else ipv6(UDP, udp())
    native.check((Side.PEER, frame[:12] + struct.pack("!H", number) + frame[14:]) for number in range(0x10000))


@pytest.mark.parametrize("number", EXTENSIONS, ids=NAMES.get)
def test_every_length_octet_of_an_extension_header_leads_to_its_end(native: Native, number: int) -> None:
    """Behind the header stand distinct octets, so that a wrong length shows in the ports."""
    rest = b"".join(struct.pack("!H", i) for i in range(1100))
    for octet in range(256):
        _, body = extension(number)
        frame = chained([(number, bytes([octet]) + body[1:])], UDP, rest)
        native.check(on_both_sides([frame, frame[:-1400]]))


# What some of these say is also written out, so that not all rests on the decoder.


def test_a_tcp_segment_over_ipv6_is_read_whole(native: Native) -> None:
    event = native.event(ipv6(TCP, tcp(0x12, 40000, 443)), Side.PRIMARY)
    shown = event.asdict()
    assert shown.pop("timestamp_ns") > 0
    assert list(shown) == list(event.__match_args__)[1:]
    assert {name: str(value) for name, value in shown.items()} == {
        "pair_name": "nk0",
        "side": str(Side.PRIMARY),
        "family": "6",
        "src": "2001:db8::1",
        "dst": "2001:db8:1::2",
        "next_header": "TCP",
        "protocol": "TCP",
        "src_port": "40000",
        "dst_port": "443",
        "tcp_flags": "SYN|ACK",
        "tcp_seq": str(0x01020304),
        "tcp_ack": str(0x05060708),
        "tcp_window": str(0x9876),
        "icmp_type": "None",
        "icmp_code": "None",
        "icmp_id": "None",
        "icmp_seq": "None",
        "payload_len": "36",
        "hop_limit": "64",
        "traffic_class": "46",
        "flow_label": str(0xABCDE),
        "fragment": "None",
        "length": "90",
        "gso_segs": "1",
        "ethertype": str(IPV6),
        "vlan_id": "None",
        "data": "None",
    }


def test_a_udp_datagram_over_ipv4_is_read_whole(native: Native) -> None:
    event = native.event(ipv4(UDP, udp(5353, 53), options=b"\1" * 8))
    assert fields(event, "family", "next_header", "protocol", "src_port", "dst_port") == [4, 17, 17, 5353, 53]
    assert fields(event, "payload_len", "hop_limit", "traffic_class", "flow_label") == [24, 63, 0x2E, None]
    assert fields(event, "length", "ethertype", "tcp_flags", "fragment") == [66, IPV4, None, None]
    assert fields(event, "side", "pair_name") == [Side.PEER, PAIR]
    assert [str(event.src), str(event.dst)] == ["192.0.2.1", "198.51.100.2"]


@pytest.mark.parametrize("number", set(EXTENSIONS) - {FRAGMENT}, ids=NAMES.get)
def test_a_truncated_extension_header_hides_the_protocol(native: Native, number: int) -> None:
    """The chain is cut short in the header, whether its first eight bytes are there or not."""
    header = options(number, 2) if number != AUTHENTICATION else authentication()
    if number not in (HOP_BY_HOP, DESTINATION, AUTHENTICATION):
        header = routing()
    whole = chained([header], TCP, b"")
    for missing in range(1, len(header[1]) + 2):
        event = native.event(whole[:-missing])
        assert fields(event, "next_header", "protocol", "src_port") == [number, None, None], f"{missing} bytes missing"
    assert native.event(whole).protocol == TCP


def test_an_extension_header_that_the_payload_length_cuts_hides_the_protocol(native: Native) -> None:
    """The frame has it all, but what is behind the end of the payload is no part of the packet."""
    frame = bytearray(chained([options(HOP_BY_HOP, 1)], UDP, udp()))
    frame[18:20] = struct.pack("!H", 15)
    assert native.event(bytes(frame)).protocol is None
    frame[18:20] = struct.pack("!H", 16)
    assert fields(native.event(bytes(frame)), "protocol", "src_port") == [UDP, None]


def test_eight_extension_headers_are_followed(native: Native) -> None:
    event = native.event(chained([options(DESTINATION)] * 8, TCP, tcp()))
    assert fields(event, "next_header", "protocol", "src_port") == [DESTINATION, TCP, 40000]


@pytest.mark.parametrize("number", EXTENSIONS, ids=NAMES.get)
def test_a_ninth_extension_header_is_not_followed(native: Native, number: int) -> None:
    event = native.event(chained([options(DESTINATION)] * 8 + [extension(number)], TCP, tcp()))
    assert fields(event, "protocol", "src_port", "fragment") == [None, None, None]


def test_a_ninth_extension_header_is_not_read_even_if_it_makes_a_later_fragment(native: Native) -> None:
    event = native.event(chained([options(DESTINATION)] * 8 + [fragment(64, more=True)], TCP, tcp()))
    assert fields(event, "protocol", "fragment") == [None, None]


@pytest.mark.parametrize(
    ("offset", "more", "port"),
    [(0, True, 40000), (1280, True, None), (0xFFF8, False, None), (0, False, 40000)],
    ids=["first", "middle", "last", "atomic"],
)
def test_only_a_fragment_that_begins_the_segment_has_ports(
    native: Native, offset: int, more: bool, port: int | None
) -> None:
    event = native.event(chained([fragment(offset, more=more)], TCP, tcp()))
    assert fields(event, "protocol", "fragment", "src_port") == [TCP, Fragment(offset, more), port]
    event = native.event(ipv4(TCP, tcp(), offset=offset, more=more))
    expected = Fragment(offset, more) if offset or more else None
    assert fields(event, "protocol", "fragment", "src_port") == [TCP, expected, port]


def test_behind_a_later_fragment_nothing_is_taken_for_a_header(native: Native) -> None:
    event = native.event(chained([fragment(8), options(DESTINATION)], TCP, tcp()))
    assert fields(event, "protocol", "src_port") == [DESTINATION, None]


def test_the_outermost_tag_gives_the_vlan_and_the_innermost_of_two_the_type(native: Native) -> None:
    frame = ipv6(UDP, udp())
    event = native.event(tagged(tagged(frame, 5), 0xABC, kind=SERVICE_VLAN, priority=7))
    assert fields(event, "vlan_id", "ethertype", "dst_port") == [0xABC, IPV6, 53]
    event = native.event(tagged(tagged(tagged(frame, 5), 6), 7))
    assert fields(event, "vlan_id", "ethertype", "family") == [7, VLAN, None]


@pytest.mark.parametrize("there", range(1, 4))
def test_a_tag_that_is_cut_is_no_tag(native: Native, there: int) -> None:
    frame = tagged(ipv6(UDP, udp()), 5)
    assert fields(native.event(frame[: 14 + there]), "vlan_id", "ethertype") == [None, VLAN]
    assert fields(native.event(tagged(frame, 6)[: 18 + there]), "vlan_id", "ethertype") == [6, VLAN]


def test_an_icmp_type_belongs_to_one_family_only(native: Native) -> None:
    echo = b"\x80\1\0\0" + PAYLOAD
    assert fields(native.event(ipv6(ICMPV6, echo)), "icmp_type", "icmp_code") == [128, 1]
    assert fields(native.event(ipv4(ICMPV6, echo)), "protocol", "icmp_type") == [ICMPV6, None]
    assert fields(native.event(ipv4(1, echo)), "icmp_type", "icmp_code") == [128, 1]
    assert fields(native.event(ipv6(1, echo)), "protocol", "icmp_type") == [1, None]


@pytest.mark.parametrize("vlan", [None, 7], ids=["plain", "tagged"])
@pytest.mark.parametrize(("family", "types"), [(4, {0, 8}), (6, {128, 129})])
def test_an_echo_alone_has_an_identifier_and_a_sequence_number(
    native: Native, family: int, types: set[int], vlan: int | None
) -> None:
    """And only one whose header of eight bytes is there; without it the type and the code are still told."""
    for kind in range(256):
        message = bytes([kind, 0, 0, 0, 0xCA, 0xFE, 0xF0, 0x0D]) + PAYLOAD
        whole = ipv4(1, message) if family == 4 else ipv6(ICMPV6, message)
        frame = whole if vlan is None else tagged(whole, vlan)
        expected = [0xCAFE, 0xF00D] if kind in types else [None, None]
        assert fields(native.event(frame), "icmp_id", "icmp_seq") == expected, kind
    for there in range(4, 8):
        whole = ipv4(1, message[:there]) if family == 4 else ipv6(ICMPV6, b"\x80" + message[1:there])
        frame = whole if vlan is None else tagged(whole, vlan)
        event = native.event(frame)
        assert fields(event, "icmp_code", "icmp_id", "icmp_seq") == [0, None, None]


def test_a_segment_whose_header_is_cut_has_no_field_of_tcp(native: Native) -> None:
    names = ("src_port", "tcp_flags", "tcp_seq", "tcp_ack", "tcp_window")
    for missing in range(1, 21):
        assert fields(native.event(ipv6(TCP, tcp()[:20])[:-missing]), *names) == [None] * 5
    assert fields(native.event(ipv6(TCP, tcp()[:20])), *names[2:]) == [0x01020304, 0x05060708, 0x9876]


def test_a_packet_is_read_where_it_is_not_linear(native: Native) -> None:
    """Headers lie before, across and behind the end of the linear part, as far as this kernel can make such packets.

    Newer kernels put what does not fit a page into fragments of the skb; older ones refuse it.
    """
    largest = largest_frame(native)
    frames = []
    for units in range(180, 255):
        for tail in (b"", bytes(largest // 2)):
            chain = [options(DESTINATION, 225), options(DESTINATION, units)]
            frames += [chained(chain, TCP, tcp() + tail), chained(chain, UDP, udp() + tail)]
            frames += [chained([*chain, authentication()], ICMPV6, bytes.fromhex("80010000") + PAYLOAD + tail)]
            frames += [
                chained([*chain, fragment(more=True)], TCP, tcp() + tail),
                chained([*chain, fragment(64)], UDP, udp() + tail),
            ]
            frames += [tagged(frame, 3) for frame in frames[-5:]]
    deep = chained([options(DESTINATION, 255)] * 8, TCP, tcp())
    frames += lengths(deep) if largest > len(deep) else ()
    native.check(on_both_sides(frame for frame in frames if len(frame) <= largest))


def test_a_jumbogram_says_its_real_length(native: Native) -> None:
    """RFC 2675, where this kernel can make so large a packet; elsewhere the largest that it can make, which is none."""
    largest = min(largest_frame(native), JUMBO)
    jumbo = HOP_BY_HOP, b"\0\xc2\4" + struct.pack("!I", largest - 54)
    frame = bytearray(chained([jumbo], TCP, tcp()).ljust(largest, b"\0"))
    frame[18:20] = bytes(2)
    event = native.event(bytes(frame))
    if largest == JUMBO:
        assert fields(event, "payload_len", "length", "protocol", "src_port") == [JUMBO - 54, JUMBO, TCP, 40000]
    else:
        assert fields(event, "payload_len", "length", "protocol", "src_port") == [0, largest, None, None]


def largest_frame(native: Native) -> int:
    """Tell how large a frame this kernel makes for a test run."""
    for size in (JUMBO, LARGE):
        try:
            native.program.test_run(PROGRAMS[Side.PEER], ethernet(0, bytes(size - 14)))
        except OSError:
            continue
        assert native.stream.read(10.0) is not None
        return size
    return 3500  # a page less what an skb needs beside the data


@pytest.mark.parametrize("side", PROGRAMS, ids=str)
def test_the_verdict_is_that_of_the_side(native: Native, side: Side) -> None:
    """A side that is a blackhole stays one: the reader writes its verdict, and each program returns its own."""
    frame = ipv6(UDP, udp())
    drop = [DROP if each is side else NEXT for each in PROGRAMS]
    native.program.set_variable("verdict", struct.pack("=2i", *drop))
    try:
        verdicts = {each: native.program.test_run(name, frame)[0] for each, name in PROGRAMS.items()}
    finally:
        native.program.set_variable("verdict", struct.pack("=2i", NEXT, NEXT))
    events = [native.stream.read(10.0) for _ in PROGRAMS]
    assert verdicts == dict(zip(PROGRAMS, drop, strict=True))
    assert [event and event.side for event in events] == list(PROGRAMS)


def test_the_kernel_runs_every_tagged_frame(native: Native) -> None:
    """Else the lengths and mutations would prove less than they seem to."""
    for frame in map(tagged, PACKETS):
        assert not may_be_refused(frame)
        assert native.event(frame).length == len(frame)


def test_mutated_packets_are_read_as_the_decoder_reads_them(native: Native) -> None:
    mutated = Mutator(PACKETS, SEED).packets(MUTATIONS)
    sides = random.Random(SEED)
    native.check(
        ((sides.choice((Side.PRIMARY, Side.PEER)), frame) for frame in mutated),
        f"(NETKIT_BPF_SEED={SEED} NETKIT_BPF_MUTATIONS={MUTATIONS})",
    )


def test_mutations_reach_every_kind_of_event() -> None:
    """The mutations would prove little if they only broke packets, or never did."""
    kinds: Counter[str] = Counter()
    count = 2000
    for frame in Mutator(PACKETS, SEED).packets(count):
        kinds.update(_kinds(decode(frame, side=Side.PEER, pair=PAIR)))
    assert min(kinds.values()) >= count // 100, kinds
    assert set(kinds) == {
        *("not ip", "ipv4", "ipv6", "no protocol", "chain", "ports", "no ports", "icmp", "echo"),
        *("first fragment", "later fragment", "tag", "no tag"),
    }


def _kinds(event: Fields) -> Iterator[str]:
    yield {None: "not ip", 4: "ipv4", 6: "ipv6"}[event["family"]]  # type: ignore[index]
    yield "tag" if event["vlan_id"] is not None else "no tag"
    if event["family"] == 6 and event["protocol"] is None:
        yield "no protocol"
    if event["protocol"] != event["next_header"]:
        yield "chain"
    if event["icmp_type"] is not None:
        yield "icmp" if event["icmp_id"] is None else "echo"
    elif event["family"]:
        yield "ports" if event["src_port"] is not None else "no ports"
    if isinstance(event["fragment"], Fragment):
        yield "later fragment" if event["fragment"].offset else "first fragment"


def test_the_same_seed_makes_the_same_mutations() -> None:
    first, again, other = (list(Mutator(PACKETS, seed).packets(50)) for seed in (7, 7, 8))
    assert first == again
    assert first != other


def test_a_difference_is_told_with_the_packet_and_the_fields(native: Native, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison can fail, and its message is what one needs to see why."""

    def wrong(frame: bytes, *, side: Side, pair: str) -> Fields:
        return {**decode(frame, side=side, pair=pair), "hop_limit": 1, "vlan_id": True}

    monkeypatch.setattr("native.decode", wrong)
    frame = ipv6(UDP, udp())
    with pytest.raises(AssertionError) as caught:
        native.check([(Side.PEER, frame)], "(seed 1)")
    assert frame.hex() in str(caught.value)
    assert "hop_limit: program 64, decoder 1" in str(caught.value)
    assert "vlan_id: program None, decoder True" in str(caught.value)
    assert "(seed 1)" in str(caught.value)


def test_the_core_knows_the_programs_by_name(native: Native) -> None:
    assert isinstance(native.program, _core.Object)
    for name in PROGRAMS.values():
        assert native.program.program(name) > 0
    with pytest.raises(OSError, match="monitor_nobody"):
        native.program.test_run("monitor_nobody", bytes(64))
