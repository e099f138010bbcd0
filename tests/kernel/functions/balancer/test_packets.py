# SPDX-License-Identifier: MIT
"""What the load balancer makes of packets that no socket sends: raw frames, ICMP errors, fragments, options."""

from __future__ import annotations

import socket
import struct
from typing import Literal

import dpkt
import pytest

from balancing import Wired, frame_of, packet, raw_socket
from elsewhere import needs_tcx
from netkit_bpf import Backend, BalancerStats, LoadBalancer, Monitor
from service import PORT, Service, service

pytestmark = needs_tcx

SHORT = 0.3  # to wait for a reply that must not come
QUIET = BalancerStats(0, 0, 0, 0, 0, 0)
IP_MTU, IP_MTU_DISCOVER, IP_PMTUDISC_DO = 14, 10, 2  # linux/in.h
IPV6_MTU, IPV6_MTU_DISCOVER = 24, 23  # linux/in6.h


@pytest.mark.parametrize("version", [4, 6])
def test_raw_frames_with_whole_checksums_arrive(version: int) -> None:
    with service(version, 1) as made, LoadBalancer(made.pair, made.vip, PORT, protocol="udp", backends=made.backends):
        with made.client.socket(socket.SOCK_DGRAM) as into, raw_socket(made.pair.peer) as raw:
            into.bind(made.client.name(4000))
            for payload in (b"abcd", b"abc", b"\xff" * 99):
                out = dpkt.udp.UDP(sport=4000, dport=PORT, data=payload, ulen=8 + len(payload))
                raw.send(frame_of(made.pair, packet(made.client.address, made.vip, out)))
                assert into.recv(256) == b"b1" + payload[2:]


@pytest.mark.parametrize("version", [4, 6])
def test_headers_beyond_the_linear_part_are_translated_all_the_same(version: int) -> None:
    """Of a frame of more than a page, af_packet(7) puts only the Ethernet header into the linear part of the skb."""
    with service(version, 1) as made, raw_socket(made.pair.peer) as raw:
        for pair in (made.pair, made.backends[0]):
            for end in (pair.primary, pair.peer):
                end.set_mtu(9000)
        with LoadBalancer(made.pair, made.vip, PORT, protocol="udp", backends=made.backends) as balancer:
            with made.client.socket(socket.SOCK_DGRAM) as into:
                into.bind(made.client.name(4000))
                datagram = dpkt.udp.UDP(sport=4000, dport=PORT, data=bytes(5000), ulen=5008)
                raw.send(frame_of(made.pair, packet(made.client.address, made.vip, datagram)))
                assert into.recv(65536) == b"b1" + bytes(4998)
            assert balancer.stats == QUIET


def test_options_and_extension_headers_hide_no_port() -> None:
    for version in (4, 6):
        datagram = dpkt.udp.UDP(sport=4000, dport=PORT, data=b"abcd", ulen=12)
        with service(version, 1) as made, raw_socket(made.pair.peer) as raw:
            whole = packet(made.client.address, made.vip, datagram)
            frames = with_options(whole) if version == 4 else with_extensions(whole)
            with LoadBalancer(made.pair, made.vip, PORT, protocol="udp", backends=made.backends) as balancer:
                with made.client.socket(socket.SOCK_DGRAM) as into:
                    into.bind(made.client.name(4000))
                    for each in frames:
                        raw.send(frame_of(made.pair, each))
                        assert into.recv(64) == b"b1cd"
                assert balancer.stats == QUIET


def test_what_is_cut_or_no_packet_at_all_is_left_alone(made: Service) -> None:
    datagram = dpkt.udp.UDP(sport=4000, dport=PORT, data=b"abcd", ulen=12)
    whole = frame_of(made.pair, packet(made.client.address, made.vip, datagram))
    error = dpkt.icmp.ICMP(type=3, code=3, data=bytes(4) + packet(made.vip, made.client.address, datagram))
    errors = frame_of(made.pair, packet(made.client.address, made.vip, error))
    with LoadBalancer(made.pair, made.vip, PORT, protocol="udp", backends=made.backends) as balancer:
        with raw_socket(made.pair.peer) as raw:
            for length in range(15, len(whole) - 4):
                raw.send(whole[:length])
            for length in range(35, len(errors) - 16):
                raw.send(errors[:length])
            for first in (0x00, 0x44, 0x4F, 0x65):
                raw.send(whole[:14] + bytes([first]) + whole[15:])
        assert sum(each.packets for each in balancer.backends) == 0
        assert balancer.stats == QUIET


def test_an_icmp_error_from_a_backend_reaches_the_client(wired: Wired) -> None:
    """Nobody listens there. The error quotes what the client sent, else its socket would not take it."""
    made = wired.service
    is_dsr = wired.way == "dsr"
    port = 81 if is_dsr else PORT
    backends = [Backend(each, None, 81) for each in made.backends]
    with (
        LoadBalancer(made.pair, made.vip, port, protocol="udp", mode=wired.way, backends=backends) as balancer,
        made.client.socket(socket.SOCK_DGRAM) as out,
        Monitor(made.pair, sides=["primary"], filter="icmp or icmp6") as monitor,
    ):
        out.connect((made.vip, port))
        out.send(b"is anybody there")
        with pytest.raises(ConnectionRefusedError):
            out.recv(64)
        assert balancer.stats == QUIET._replace(icmp_errors=1)
        unreachable = 1 if made.version == 6 else 3
        error = next(event for event in monitor.events(timeout=5.0) if event.icmp_type == unreachable)
        assert str(error.src) == made.vip


def test_an_icmp_error_from_the_clients_side_reaches_the_backend(wired: Wired) -> None:
    """A router behind the clients' pair says that a reply was too large: the backend's kernel learns the path's MTU."""
    made = wired.service
    is_ipv6 = made.version == 6
    level, discover, path_mtu = (
        (socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_MTU) if is_ipv6 else (socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_MTU)
    )
    vip_or_own = made.vip if wired.way == "dsr" else None
    with (
        LoadBalancer(made.pair, made.vip, 82, protocol="udp", mode=wired.way, backends=made.backends[:1]) as balancer,
        made.ends[0].socket(socket.SOCK_DGRAM) as server,
        made.client.socket(socket.SOCK_DGRAM) as out,
        raw_socket(made.pair.peer) as raw,
    ):
        server.bind((vip_or_own or made.ends[0].address, 82))
        server.setsockopt(level, discover, IP_PMTUDISC_DO)
        out.connect((made.vip, 82))
        out.send(b"hello")
        server.connect(server.recvfrom(64)[1])
        server.send(b"welcome")
        assert out.recv(64) == b"welcome"
        assert server.getsockopt(level, path_mtu) == 1500
        reply = dpkt.udp.UDP(sport=82, dport=out.getsockname()[1], data=bytes(1400), ulen=1408)
        quoted = packet(made.vip, made.client.address, reply)[: 1232 if is_ipv6 else 28]
        error = (
            dpkt.icmp6.ICMP6(type=2, code=0, data=struct.pack("!I", 1400) + quoted)
            if is_ipv6
            else dpkt.icmp.ICMP(type=3, code=4, data=struct.pack("!HH", 0, 1400) + quoted)
        )
        raw.send(frame_of(made.pair, packet(made.client.address, made.vip, error)))
        with pytest.raises(OSError, match="Message too long"):
            server.recv(64)
        assert server.getsockopt(level, path_mtu) == 1400
        assert balancer.stats == QUIET._replace(icmp_errors=1)


@pytest.mark.parametrize("version", [4, 6])
def test_fragments_with_the_services_port_are_dropped_and_counted(version: int) -> None:
    with service(version, 1) as made:
        with LoadBalancer(made.pair, made.vip, PORT, protocol="udp", backends=made.backends) as balancer:
            with made.client.socket(socket.SOCK_DGRAM) as out:
                made.ask_datagram(out, 1000)
                out.settimeout(SHORT)
                with pytest.raises(TimeoutError):
                    made.ask_datagram(out, 5000)
            assert balancer.stats == QUIET._replace(fragments=1)


@pytest.mark.parametrize("way", ["nat", "dsr"])
def test_fragments_of_replies_are_dropped_and_counted(way: Literal["nat", "dsr"]) -> None:
    with (
        service(4, 1, dsr=way == "dsr") as made,
        LoadBalancer(made.pair, made.vip, 82, protocol="udp", mode=way, backends=made.backends) as balancer,
        made.ends[0].socket(socket.SOCK_DGRAM) as server,
        made.client.socket(socket.SOCK_DGRAM) as out,
    ):
        server.bind((made.vip if way == "dsr" else made.ends[0].address, 82))
        out.connect((made.vip, 82))
        out.send(b"how much is there")
        client = server.recvfrom(64)[1]
        server.sendto(bytes(5000), client)
        server.sendto(b"not so much", client)
        assert out.recv(64) == b"not so much"
        assert balancer.stats == QUIET._replace(fragments=1)


def test_frames_with_a_vlan_tag_are_left_alone(made: Service) -> None:
    datagram = dpkt.udp.UDP(sport=4000, dport=PORT, data=b"abcd", ulen=12)
    plain = frame_of(made.pair, packet(made.client.address, made.vip, datagram))
    with LoadBalancer(made.pair, made.vip, PORT, protocol="udp", backends=made.backends) as balancer:
        with raw_socket(made.pair.peer) as raw:
            raw.send(plain[:12] + b"\x81\0\0\7" + plain[12:])
        assert sum(each.packets for each in balancer.backends) == 0


def test_a_backend_cannot_answer_for_another(made: Service) -> None:
    with (
        LoadBalancer(made.pair, made.vip, PORT, protocol="udp", backends=made.backends[:2]) as balancer,
        made.client.socket(socket.SOCK_DGRAM) as out,
    ):
        out.bind(made.client.name(4000))
        number = int(made.ask_datagram(out)[1]) - 1
        forged = dpkt.udp.UDP(sport=PORT, dport=4000, data=b"forged", ulen=14)
        frame = packet(made.ends[number].address, made.client.address, forged)
        other = made.backends[1 - number]
        with raw_socket(other.peer) as raw:
            raw.send(frame_of(other, frame))
        assert sum(each.reply_packets for each in balancer.backends) == 1
        with raw_socket(made.backends[number].peer) as raw:
            raw.send(frame_of(made.backends[number], frame))
        assert out.recv(64) == b"forged"


def test_a_client_with_the_address_of_the_backend_is_refused(made: Service) -> None:
    with LoadBalancer(made.pair, made.vip, PORT, backends=made.backends[:1]) as balancer:
        with raw_socket(made.pair.peer) as raw:
            syn = dpkt.tcp.TCP(sport=4000, dport=PORT, flags=dpkt.tcp.TH_SYN)
            raw.send(frame_of(made.pair, packet(made.ends[0].address, made.vip, syn)))
        assert balancer.stats == QUIET._replace(hairpins=1)


def with_options(ip: bytes) -> list[bytes]:
    """The IPv4 packet with 4 and with 40 bytes of options that do nothing."""
    found = []
    for length in (4, 40):
        made = dpkt.ip.IP(ip)
        made.opts, made.hl, made.len, made.sum = b"\1" * length, 5 + length // 4, len(ip) + length, 0
        found.append(bytes(made))
    return found


def with_extensions(ip: bytes) -> list[bytes]:
    """The IPv6 packet with one and with three headers of options that do nothing."""
    found = []
    for count in (1, 3):
        padding = b"\1\4" + bytes(4)
        headers = b"".join(bytes([17 if last else 60, 0]) + padding for last in (n == count - 1 for n in range(count)))
        length = struct.pack("!H", len(ip) - 40 + len(headers))
        found.append(ip[:4] + length + bytes([60]) + ip[7:40] + headers + ip[40:])
    return found
