# SPDX-License-Identifier: MIT
"""Connections that a firewall remembers: against nf_conntrack, and where the table ends."""

from __future__ import annotations

import json
import random
import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from decoder import TCP, UDP
from elsewhere import need
from netkit_bpf import BPFObject, Firewall, NetNS, Program, Ruleset, Side, Verdict
from netkit_bpf.functions.firewall_programs import load_rules
from packets import chained, fragment, ipv6, tcp, udp
from traffic import Wire
from veth import veth_wire

PASS, DROP = -1, 2
FIN, SYN, RST, ACK = 1, 2, 4, 16
ENDS = ("10.99.0.1", "10.99.0.2")  # behind the primary and behind the peer
RULES = """
pass primary tcp from any to any port 80 flags S/SA
pass primary udp from any to any port 53
pass peer tcp from any to any port { 22, 8080 }
"""
NFT = """
table inet judge {
  set established { typeof ip id; flags dynamic; size 65535; }
  set passed { typeof ip id; flags dynamic; size 65535; }
  chain judge {
    type filter hook prerouting priority 0; policy drop;
    ct state established add @established { ip id } accept
    ip saddr 10.99.0.1 tcp dport 80 tcp flags & (syn | ack) == syn add @passed { ip id } accept
    ip saddr 10.99.0.1 udp dport 53 add @passed { ip id } accept
    ip saddr 10.99.0.2 tcp dport { 22, 8080 } add @passed { ip id } accept
  }
  chain answers { type filter hook output priority -400; policy drop; }
}
"""


@pytest.fixture
def wire4() -> Iterator[Wire]:
    with veth_wire(4) as wire:
        yield wire


class Conversation:
    """Packets of one connection, in an order that TCP allows."""

    def __init__(self, chance: random.Random, number: int) -> None:
        self.chance = chance
        self.protocol, self.port = chance.choice([(TCP, 80), (TCP, 22), (TCP, 8080), (TCP, 443), (UDP, 53), (UDP, 99)])
        self.ports = (1024 + number, self.port)
        self.opener = chance.choice([0, 0, 1])
        self.sequence = [1000, 5000]

    def frames(self) -> Iterator[tuple[int, bytes]]:
        """Who sends, by number, and what: from the IP header's protocol on."""
        a, b = self.opener, 1 - self.opener
        if self.protocol == UDP:
            for sender in self.chance.choice([[a], [a, a], [a, b, a, b], [b, a], [a, b, b, a], [b, b, a, b, a]]):
                yield sender, self._udp(sender)
            return
        script: list[tuple[int, int]] = [(a, SYN)] * self.chance.choice([0, 1, 1, 1, 1, 2])
        ending = self.chance.choice(["open", "refused", "silent", "finished", "finished", "reset", "reopened"])
        if ending == "refused":
            script += [(b, RST | ACK), (a, SYN)]
        elif ending != "silent":
            script += [(b, SYN | ACK), (a, ACK)]
            script += [(self.chance.choice([a, b]), ACK) for _ in range(self.chance.randint(0, 4))]
        if ending in ("finished", "reopened"):
            first = self.chance.choice([a, b])
            script += [(first, FIN | ACK), (1 - first, ACK), (1 - first, FIN | ACK), (first, ACK)]
        if ending == "reset":
            script += [(self.chance.choice([a, b]), RST | ACK), (b, ACK)]
        if ending == "reopened":
            script += [(a, SYN), (b, SYN | ACK), (a, ACK), (b, ACK)]
        for sender, flags in script:
            yield sender, self._tcp(sender, flags)

    def _ports(self, sender: int) -> bytes:
        return struct.pack("!HH", *(self.ports if sender == self.opener else self.ports[::-1]))

    def _udp(self, sender: int) -> bytes:
        return self._ports(sender) + struct.pack("!HH", 8, 0)

    def _tcp(self, sender: int, flags: int) -> bytes:
        if flags == SYN:
            self.sequence[sender] += 100_000
        numbers = (self.sequence[sender], self.sequence[1 - sender] if flags & ACK else 0)
        self.sequence[sender] += bool(flags & (SYN | FIN))
        return self._ports(sender) + struct.pack("!IIBBHHH", *numbers, 0x50, flags, 65535, 0, 0)


def frame_of(number: int, sender: int, protocol: int, payload: bytes) -> bytes:
    addresses = b"".join(socket.inet_aton(ENDS[end]) for end in (sender, 1 - sender))
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), number, 0, 64, protocol, 0) + addresses
    total = sum(struct.unpack("!10H", header))
    total = (total & 0xFFFF) + (total >> 16)
    header = header[:10] + struct.pack("!H", ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF) + header[12:]
    return bytes(12) + b"\x08\0" + header + payload


def conversations(chance: random.Random, count: int) -> list[tuple[int, bytes]]:
    """Who sends which frame, many connections at once; a frame's number is in the identification of its header."""
    talks = [Conversation(chance, number) for number in range(count)]
    going = [(talk, talk.frames()) for talk in talks]
    frames: list[tuple[int, bytes]] = []
    while going:
        talk, rest = chance.choice(going)
        if (following := next(rest, None)) is None:
            going.remove((talk, rest))
        else:
            frames.append((following[0], frame_of(len(frames), following[0], talk.protocol, following[1])))
    return frames


def test_what_is_established_agrees_with_conntrack() -> None:
    frames = conversations(random.Random(2026), 300)
    established, passed = judge_by_nftables([frame for _, frame in frames])
    with load_rules(Ruleset.parse(RULES), Verdict.DROP, connections=1024) as obj:
        verdicts, sums = [], [obj.maps["counts"].sum_cpus()]
        for sender, frame in frames:
            verdicts.append(program(obj, list(Side)[sender]).test_run(frame).retval)
            sums.append(obj.maps["counts"].sum_cpus())
    slot = 3 * (3 + 1)  # packets of established connections, behind three rules and the default
    found = {number for number in range(len(frames)) if sums[number + 1][slot] > sums[number][slot]}
    different = {number: (frames[number][0], frames[number][1].hex()) for number in found ^ established}
    assert different == {}
    assert [verdict == PASS for verdict in verdicts] == [n in established | passed for n in range(len(frames))]
    assert len(established) > 300
    assert len(passed) > 100


def judge_by_nftables(frames: list[bytes]) -> tuple[set[int], set[int]]:
    """The numbers of the frames of established connections, and of the others that a rule passes."""
    need("nft")
    with NetNS.create() as netns:
        netns.run(["ip", "link", "set", "lo", "up"], check=True)
        for address in ENDS:
            netns.run(["ip", "address", "add", address, "dev", "lo"], check=True)
        netns.run(["nft", "-f", "-"], input=NFT, text=True, check=True)
        settings = {"ipv4/conf/all/rp_filter": 0, "ipv4/conf/lo/rp_filter": 0, "ipv4/conf/all/accept_local": 1}
        settings |= {"netfilter/nf_conntrack_checksum": 0, "netfilter/nf_conntrack_tcp_be_liberal": 1}
        for name, value in settings.items():
            netns.call(Path("/proc/sys/net", name).write_text, str(value))
        with netns.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
            raw.bind(("lo", 0))
            for frame in frames:
                raw.send(frame)
        sets = []
        for name in ("established", "passed"):
            listed = netns.run(["nft", "-j", "list", "set", "inet", "judge", name], capture_output=True, check=True)
            assert isinstance(listed, subprocess.CompletedProcess)
            [found] = [item["set"] for item in json.loads(listed.stdout)["nftables"] if "set" in item]
            sets.append(set(found.get("elem", [])))
    return sets[0], sets[1]


def program(obj: BPFObject, side: Side) -> Program:
    return obj.programs[f"firewall_{side}"]


def test_a_full_table_forgets_no_connection_and_drops_no_packet_by_chance() -> None:
    """The first ones stay; of the others, what the rules pass goes on to pass, and the answers do not."""
    with load_rules(Ruleset.parse("pass primary udp"), Verdict.DROP, connections=64) as obj:
        asks = [frame_of(0, 0, UDP, struct.pack("!HHHH", 1024 + n, 53, 8, 0)) for n in range(100)]
        answers = [frame_of(0, 1, UDP, struct.pack("!HHHH", 53, 1024 + n, 8, 0)) for n in range(100)]
        assert [program(obj, Side.PRIMARY).test_run(frame).retval for frame in asks] == [PASS] * 100
        assert [program(obj, Side.PEER).test_run(frame).retval for frame in answers] == [PASS] * 64 + [DROP] * 36
        assert [program(obj, Side.PRIMARY).test_run(frame).retval for frame in asks] == [PASS] * 100
        rule, default, established, no_room = obj.maps["counts"].sum_cpus()[: 4 * 3 : 3]
        assert (rule, default, established, no_room) == (136, 36, 128, 72)
        assert len(obj.maps["connections"]) == 64


def test_what_has_expired_is_forgotten_when_there_is_no_room() -> None:
    ask = [frame_of(0, 0, UDP, struct.pack("!HHHH", 1024 + n, 53, 8, 0)) for n in range(2)]
    answer = frame_of(0, 1, UDP, struct.pack("!HHHH", 53, 1025, 8, 0))
    with load_rules(Ruleset.parse("pass primary udp"), Verdict.DROP, connections=1) as obj:
        program(obj, Side.PRIMARY).test_run(ask[0])
        program(obj, Side.PRIMARY).test_run(ask[1])
        assert program(obj, Side.PEER).test_run(answer).retval == DROP
        [(connection, state)] = obj.maps["connections"].items()
        obj.maps["connections"][connection] = state._replace(seen=state.seen - 31_000_000_000)
        obj.variables["swept"].value = 0
        program(obj, Side.PRIMARY).test_run(ask[1])
        assert program(obj, Side.PEER).test_run(answer).retval == PASS
        assert len(obj.maps["connections"]) == 1


def test_nobody_answers_himself() -> None:
    """What comes by the hook of the opener is no answer, whatever addresses it gives."""
    with load_rules(Ruleset.parse("pass peer udp from any to any port 53"), Verdict.DROP, connections=8) as obj:
        ask, answer = (struct.pack("!HHHH", *ports, 8, 0) for ports in ((1024, 53), (53, 1024)))
        assert program(obj, Side.PEER).test_run(frame_of(0, 0, UDP, ask)).retval == PASS
        assert program(obj, Side.PEER).test_run(frame_of(0, 1, UDP, answer)).retval == DROP
        assert program(obj, Side.PRIMARY).test_run(frame_of(0, 0, UDP, ask)).retval == DROP
        assert program(obj, Side.PRIMARY).test_run(frame_of(0, 1, UDP, answer)).retval == PASS


def test_ipv6_is_remembered_and_what_has_no_ports_is_not() -> None:
    with load_rules(Ruleset.parse("pass primary ip6"), Verdict.DROP, connections=8) as obj:
        ask = ipv6(TCP, tcp(SYN))
        answer = ask[:22] + ask[38:54] + ask[22:38] + ask[56:58] + ask[54:56] + tcp(SYN | ACK)[4:]
        later = chained([fragment(64)], UDP, udp())
        assert [program(obj, Side.PRIMARY).test_run(frame).retval for frame in (ask, later)] == [PASS] * 2
        assert len(obj.maps["connections"]) == 1
        assert program(obj, Side.PEER).test_run(answer).retval == PASS
        assert program(obj, Side.PEER).test_run(ipv6(TCP, tcp(SYN))).retval == DROP


def test_connections_outlive_a_replacement_and_need_both_sides(wire4: Wire) -> None:
    with pytest.raises(ValueError, match="established needs both sides"):
        Firewall(wire4.pair, established=True, sides=["peer"])
    with pytest.raises(ValueError, match="max_connections must be 1 to"):
        Firewall(wire4.pair, established=True, max_connections=0)
    rules = "pass arp\npass primary tcp from any to any port 7"
    with (
        Firewall(wire4.pair, rules, default="drop", established=True) as firewall,
        wire4.right.socket(socket.SOCK_STREAM) as listener,
        wire4.left.socket(socket.SOCK_STREAM) as client,
    ):
        listener.bind(wire4.right.name(7))
        listener.listen()
        client.settimeout(10)
        client.connect(wire4.right.name(7))
        server, _ = listener.accept()
        with server:
            server.settimeout(10)
            firewall.replace("pass arp\ndrop")
            client.sendall(b"to")
            assert server.recv(2) == b"to"
            server.sendall(b"fro")
            assert client.recv(3) == b"fro"
        counters = firewall.counters
        assert counters.established.packets > 4
        assert counters.no_room.packets == 0
