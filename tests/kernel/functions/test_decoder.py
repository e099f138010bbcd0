# SPDX-License-Identifier: MIT
"""The decoder that judges the BPF parser is judged itself: by dpkt, on what dpkt decodes honestly."""

from __future__ import annotations

import random
from ipaddress import IPv4Address, IPv6Address

import dpkt
import pytest

from corpus import fragments, transports, whole_packets
from decoder import Fields, decode
from netkit_bpf import Side
from netkit_bpf.events.event import Fragment
from packets import authentication, chained, fragment, ipv4, ipv6, options, routing, tagged

RANDOM_PACKETS = 3000


@pytest.fixture(autouse=True)
def _dpkt_mended(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a fragment header dpkt takes the last header for it, and asks that for its offset."""
    monkeypatch.setattr(dpkt.ip6.IP6ExtensionHeader, "frag_off", 0, raising=False)


def seen_by_dpkt(frame: bytes) -> Fields:
    """Tell what dpkt makes of a frame, in the names of the event's fields: only those that it knows."""
    link = dpkt.ethernet.Ethernet(frame)
    packet = link.data
    fields: Fields = {"ethertype": link.type, "vlan_id": None, "flow_label": None}
    if hasattr(link, "vlan_tags"):
        fields["vlan_id"] = link.vlan_tags[0].id
        fields["ethertype"] = link.vlan_tags[-1].type
    if isinstance(packet, dpkt.ip6.IP6):
        fields.update(_ipv6_seen_by_dpkt(packet))
        later = any(isinstance(each, dpkt.ip6.IP6FragmentHeader) and each.frag_off for each in _headers(packet))
    else:
        assert isinstance(packet, dpkt.ip.IP)
        fields.update(_ipv4_seen_by_dpkt(packet))
        later = bool(packet.offset)
    upper = packet.data
    fields.update(src_port=None, dst_port=None, icmp_type=None, icmp_code=None, icmp_id=None, icmp_seq=None)
    fields.update(tcp_flags=None, tcp_seq=None, tcp_ack=None, tcp_window=None)
    if later:
        return fields
    # dpkt looks for both ICMPs in both families
    if isinstance(upper, dpkt.icmp.ICMP if fields["family"] == 4 else dpkt.icmp6.ICMP6):
        fields.update(icmp_type=upper.type, icmp_code=upper.code)
        if isinstance(upper.data, dpkt.icmp.ICMP.Echo | dpkt.icmp6.ICMP6.Echo):
            fields.update(icmp_id=upper.data.id, icmp_seq=upper.data.seq)
    elif isinstance(upper, dpkt.tcp.TCP | dpkt.udp.UDP | dpkt.sctp.SCTP):
        fields.update(src_port=upper.sport, dst_port=upper.dport)
    elif fields["protocol"] in (33, 136):  # DCCP and UDP-Lite, which dpkt does not know
        del fields["src_port"], fields["dst_port"]
    if isinstance(upper, dpkt.tcp.TCP):
        fields.update(tcp_flags=upper.flags, tcp_seq=upper.seq, tcp_ack=upper.ack, tcp_window=upper.win)
    return fields


def _headers(packet: dpkt.ip6.IP6) -> list[dpkt.Packet]:
    return [each for each in packet.all_extension_headers if not isinstance(each, dpkt.ip6.IP6ESPHeader)]


def _ipv6_seen_by_dpkt(packet: dpkt.ip6.IP6) -> Fields:
    headers = _headers(packet)
    places = [each for each in headers if isinstance(each, dpkt.ip6.IP6FragmentHeader)]
    return {
        "family": packet.v,
        "src": IPv6Address(packet.src),
        "dst": IPv6Address(packet.dst),
        "next_header": packet.nxt,
        "protocol": headers[-1].nxt if headers else packet.nxt,
        "payload_len": packet.plen,
        "hop_limit": packet.hlim,
        "traffic_class": packet.fc,
        "flow_label": packet.flow,
        "fragment": Fragment(8 * places[-1].frag_off, bool(places[-1].m_flag)) if places else None,
    }


def _ipv4_seen_by_dpkt(packet: dpkt.ip.IP) -> Fields:
    is_fragment = packet.offset or packet.mf
    return {
        "family": packet.v,
        "src": IPv4Address(packet.src),
        "dst": IPv4Address(packet.dst),
        "next_header": packet.p,
        "protocol": packet.p,
        "payload_len": packet.len - 4 * packet.hl,
        "hop_limit": packet.ttl,
        "traffic_class": packet.tos,
        "fragment": Fragment(8 * packet.offset, bool(packet.mf)) if is_fragment else None,
    }


def differences(frame: bytes) -> dict[str, tuple[object, object]]:
    """Name the fields on which the decoder and dpkt differ, with what each says."""
    ours, theirs = decode(frame, side=Side.PEER, pair="nk0"), seen_by_dpkt(frame)
    return {name: (ours[name], value) for name, value in theirs.items() if ours[name] != value}


def assert_dpkt_agrees(frame: bytes, name: str = "") -> None:
    assert not differences(frame), f"(decoder, dpkt) of {name} {frame.hex()}"


def test_dpkt_agrees_on_whole_packets() -> None:
    for name, frame in whole_packets().items():
        assert_dpkt_agrees(frame, name)
        assert_dpkt_agrees(tagged(frame, 42), name)


def test_dpkt_agrees_on_fragments() -> None:
    # dpkt goes on behind the header of a later fragment, into payload that looks like another header.
    beyond_dpkt = ("ipv6 middle fragment options", "ipv6 last fragment options")
    for name, frame in fragments().items():
        if not name.startswith(beyond_dpkt):
            assert_dpkt_agrees(frame, name)


def test_dpkt_agrees_on_random_whole_packets() -> None:
    chance = random.Random(8200)
    for _ in range(RANDOM_PACKETS):
        protocol, payload = chance.choice([*transports(6).values()])
        if protocol in (6, 17, 132):  # random ports; for TCP any flags
            payload = chance.randbytes(4) + payload[4:]
        if protocol == 6:
            payload = payload[:13] + chance.randbytes(1) + payload[14:]
        if chance.random() < 0.3:
            words = chance.randrange(11)
            frame = ipv4(protocol, payload, options=b"\1" * 4 * words, tos=chance.randrange(256))
        else:
            kinds = [
                lambda: options(0, chance.randrange(4)),
                lambda: options(60, chance.randrange(40)),
                lambda: routing(chance.randrange(5)),
                lambda: authentication(4 * chance.randrange(9)),
                lambda: fragment(more=chance.random() < 0.5),
            ]
            chain = [chance.choice(kinds)() for _ in range(chance.randrange(9))]
            frame = (
                chained(chain, protocol, payload)
                if chain
                else ipv6(protocol, payload, flow_label=chance.getrandbits(20))
            )
        for _ in range(chance.randrange(3)):
            frame = tagged(frame, chance.randrange(0x1000))
        assert_dpkt_agrees(frame)


def test_a_difference_between_dpkt_and_the_decoder_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = chained([options(60, 2), fragment(more=True)], 6, transports(6)["tcp"][1])
    assert not differences(frame)
    monkeypatch.setattr(dpkt.ip6.IP6FragmentHeader, "m_flag", 0)
    assert differences(frame) == {"fragment": (Fragment(0, True), Fragment(0, False))}
