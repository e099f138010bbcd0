# SPDX-License-Identifier: MIT
"""A filter in the kernel matches what libpcap's own interpreter matches: expression by expression, frame by frame."""

from __future__ import annotations

import errno
import os
import random
import re
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from corpus import all_packets
from decoder import SERVICE_VLAN, TCP, UDP, VLAN
from libpcap import OfflineFilter
from mutator import Mutator
from native import may_be_refused
from netkit_bpf import _core
from packets import chained, ipv6, options, tagged, tcp, udp
from syscall import ANY_HOOK, ARRAY, Runner, array, behind_a_tag, instruction, loaded

PACKETS = [frame for group in all_packets().values() for frame in group.values()]
THOROUGHNESS = int(os.environ.get("NETKIT_BPF_MUTATIONS", "100000"))
MUTATIONS = THOROUGHNESS // 100  # for each expression
SEED = int(os.environ.get("NETKIT_BPF_SEED", "8200"))
MATCH, NO_MATCH = 1, -1
SAY_MATCH = [instruction(0xB7, 0, immediate=MATCH), instruction(0x95)]

# All operations, sizes and kinds of load of classic BPF, and what people write.
EXPRESSIONS = [
    "",
    "ip",
    "ip6",
    "arp",
    "icmp6 or tcp port 443",
    "tcp",
    "udp port 53",
    "udp src port 5353 and dst portrange 50-60",
    "not (tcp or udp)",
    "sctp or esp or ip proto 47",
    "host 192.0.2.1",
    "ip6 host 2001:db8::1 and not ip6 host 2001:db8::2",
    "dst net 198.51.100.0/24 or dst net 2001:db8:1::/48",
    "src net 192.0.0.0/9 and not dst net 128.0.0.0/1",
    "ether host 02:00:00:00:00:01",
    "ether multicast or ether broadcast",
    "ether proto 0x88e5 or ether proto 0x9100",
    "llc",
    "mpls",
    "icmp[icmptype] = icmp-echo",
    "icmp6[icmp6type] = icmp6-echo",
    "tcp[tcpflags] & (tcp-syn|tcp-ack) = tcp-syn|tcp-ack",
    "tcp[((tcp[12] & 0xf0) >> 2):4] = 0xe0e1e2e3",
    "ip[6:2] & 0x1fff != 0",
    "ip[0] & 0xf > 5",
    "ip multicast or ip6 multicast or ip6[24] = 0x20",
    "ip6 protochain 6",
    "ip protochain 17",
    "len > 90",
    "less 64 or greater 120",
    "ether[len - 1] = 0xef",
    "ether[len - 4 : 4] = 0xecedeeef",
    "ip[2:2] = len - 14",
    "ether[14] * 3 + ether[15] - 7 > 200",
    "(ether[16:2] / ether[14]) % 5 = 2",
    "ether[20] / (ether[21] - ether[22]) < 3",
    "ether[20] % ether[18] = 0",
    "ether[14:4] << (ether[18] & 63) > 0x10000000",
    "ether[14:4] >> ether[19] = 0",
    "-(ether[15]) & 0xff = 0x52 or ether[15] ^ 0x55 = 0x7b",
    "ether[0xffdfffff] = 1 or ether[0x7fffffff:4] = 1",
    "ether[ether[14:4]] = 0 or ether[ether[14:4]:4] != 0",
    "ether[ether[23] : 2] > 0x8000",
    "ether[4000] = 0xa5 or ether[4001:2] > 3 or ether[40000:4] = 0",
    "vlan",
    "vlan 100",
    "vlan 0x123 and ip6",
    "vlan 6 and vlan 5 and tcp",
    "vlan and (tcp port 443 or arp)",
    "ether[12:2] = 0x8100 and ether[14:2] & 0xe000 = 0xa000",
    "ether[11] = 1 and ether[11:4] = 0x01810000 or ether[13:4] != 0 or ether[15:4] = 5",
]
# Of these none, or each, is true of all frames here.
UNANIMOUS = [
    "",
    "ether[0xffdfffff] = 1 or ether[0x7fffffff:4] = 1",
    "ether[4000] = 0xa5 or ether[4001:2] > 3 or ether[40000:4] = 0",
]
# Where a tag may stand, every place and size of a load that could meet it, at a fixed place and a computed one.
AROUND_THE_TAG = [f"ether[{at}:{size}] & 1 = 1" for at in range(8, 20) for size in (1, 2, 4)] + [
    f"ether[(ether[14] & 0) + {at}:{size}] & 2 = 2" for at in range(8, 20) for size in (1, 2, 4)
]


@contextmanager
def filtering(expression: str) -> Iterator[tuple[_core.FilterProgram, Callable[[bytes], int]]]:
    """A filter, alone before a program that says MATCH."""
    with loaded(SAY_MATCH, ANY_HOOK) as observer, array(ARRAY, struct.pack("=i", NO_MATCH)) as verdict:
        made = _core.FilterProgram(_core.compile_filter(expression), observer, 0, verdict, 0)
        yield made, Runner(made.program.fileno())
        del made


def verdicts(run: Callable[[bytes], int], frames: list[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Tell of each frame that the kernel takes whether it matches."""
    for frame in frames:
        try:
            verdict = run(frame)
        except OSError as error:
            if error.errno == errno.EINVAL and may_be_refused(frame):
                continue
            raise
        assert verdict in (MATCH, NO_MATCH), verdict
        yield frame, verdict == MATCH


@pytest.fixture(scope="module")
def frames() -> list[bytes]:
    """Every packet, every cut of some, and spoilt ones; fewer of all where time is short."""
    cut = [frame[:length] for frame in PACKETS[::25] for length in range(15, len(frame))]
    known = [*PACKETS, *cut]
    kept = random.Random(SEED).sample(known, min(len(known), 300 + MUTATIONS))
    return [*kept, *Mutator(PACKETS, SEED).packets(MUTATIONS)]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_a_filter_matches_what_libpcap_matches(expression: str, frames: list[bytes]) -> None:
    with filtering(expression) as (made, run), OfflineFilter(expression) as oracle:
        results = list(verdicts(run, frames))
        differ = [frame.hex() for frame, matched in results if oracle.matches(frame) != matched]
        assert not differ[:3], f"{len(differ)} of {len(results)} frames differ (NETKIT_BPF_SEED={SEED})"
        kept_out = [matched for _, matched in results].count(False)
        assert made.filtered == kept_out
    if len(frames) > len(PACKETS):  # of a sample it need not be so
        assert (0 < kept_out < len(results)) != (expression in UNANIMOUS), "it would prove little"


@pytest.mark.parametrize("expression", [*EXPRESSIONS, *AROUND_THE_TAG])
def test_a_tag_beside_the_packet_is_where_it_is_on_the_wire(expression: str) -> None:
    """The same answers as for a packet that has the tag within."""
    choose = random.Random(SEED)
    sample = choose.sample(PACKETS, min(60, 10 + THOROUGHNESS // 200)) + [
        frame[:length] for frame in PACKETS[:1] for length in range(15, 24)
    ]
    sample += [tagged(frame, 6) for frame in sample[::4]]
    with filtering(expression) as (made, _), OfflineFilter(expression) as oracle:
        for kind, tci in ((VLAN, 100), (VLAN, 0xA005), (SERVICE_VLAN, 0x123)):
            with behind_a_tag(made.program.fileno(), kind, tci) as run:
                for frame, matched in verdicts(run, sample):
                    on_the_wire = tagged(frame, tci & 0xFFF, kind=kind, priority=tci >> 13)
                    assert oracle.matches(on_the_wire) == matched, on_the_wire.hex()


def test_a_filter_reads_what_is_not_linear() -> None:
    """Behind a page newer kernels keep a frame in fragments; older ones do not take such a frame here."""
    headers = [options(60, 225)] * 3
    frames = [chained(headers, UDP, udp(port) + bytes(5000)) for port in (1, 2)]
    at = frames[0].index(udp(1))
    with filtering(f"ether[{at}:4] = 0x20035 and ether[{at + 1}:2] = 0x0200") as (_, run):
        try:
            assert [run(frame) for frame in frames] == [NO_MATCH, MATCH]
        except OSError as error:
            assert error.errno == errno.EINVAL  # noqa: PT017


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("tcp prt 80", "syntax error at 'prt', character 5"),
        ("(tcp or udp", "syntax error at its end"),
        ("tcp and and udp", "syntax error at 'and', character 9"),
        ("ip6 && \N{SNOWMAN}", "syntax error at '\N{SNOWMAN}', character 8"),
        ("tcp[13 13] = 1", "syntax error at '13', character 8"),
        ("port 70000", "illegal port number 70000 > 65535"),
        ("vlan 5000", "VLAN tag 5000 greater than maximum 4095"),
        ("tcp and arp", "expression rejects all packets"),
    ],
)
def test_a_bad_expression_is_refused_in_libpcaps_words(expression: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        _core.compile_filter(expression)
    assert repr(expression) in repr(str(caught.value)) or expression in str(caught.value)


# More branches in a row than the verifier keeps: 8,192.
TOO_LONG = " or ".join(f"ether[len - {at}] * ether[len - {at + 1}] = 1" for at in range(1, 1500))


def test_an_expression_too_long_for_the_verifier_is_refused_in_words() -> None:
    with (
        pytest.raises(ValueError, match=r"the filter is too long: it compiles to .* use fewer terms"),
        filtering(TOO_LONG),
    ):
        pass


# Each longer than a jump of 16 bits reaches, on its way through the packet with or without a tag beside it.
LONG = {
    "100 IPv6 hosts": [f"ip6 host 2001:db8::{i:x}" for i in range(2, 102)],
    "150 networks": [f"net 10.0.{i}.0/24" for i in range(150)],
    "300 ports": [f"tcp port {i}" for i in range(1000, 1300)],
    "500 products": [f"ether[{at}] * ether[{at + 1}] = 0xfffff" for at in range(500)],
}
LAST = {
    "100 IPv6 hosts": "ip6 host 2001:db8::1",
    "150 networks": "net 192.0.2.0/24",
    "300 ports": "tcp port 443",
    "500 products": "udp",
}


@pytest.mark.parametrize("what", LONG)
def test_a_long_filter_matches_what_libpcap_matches(what: str) -> None:
    """Its first term, its last one, and what none of them is true of."""
    sample = PACKETS[::6]
    for expression in (" or ".join(LONG[what]), " or ".join([*LONG[what], LAST[what]])):
        assert len(_core.compile_filter(expression)) // 8 > 1000
        with filtering(expression) as (made, run), OfflineFilter(expression) as oracle:
            for frame, matched in verdicts(run, sample):
                assert oracle.matches(frame) == matched, frame.hex()
            with behind_a_tag(made.program.fileno(), VLAN, 100) as run_tagged:
                for frame, matched in verdicts(run_tagged, sample[::5]):
                    assert oracle.matches(tagged(frame, 100)) == matched, frame.hex()


def test_a_hundred_hosts_are_the_classic_program_that_tcpdump_makes() -> None:
    assert len(_core.compile_filter(" or ".join(LONG["100 IPv6 hosts"]))) // 8 >= 1773


# What the kernel has at offsets that are of no packet (linux/filter.h), and what is said of each.
SPECIAL = {
    "PROTOCOL": (0, "the packet's protocol (SKF_AD_PROTOCOL)"),
    "PKTTYPE": (4, "as 'inbound' and 'outbound' do"),
    "IFINDEX": (8, "as 'ifindex' does"),
    "NLATTR": (12, "metadata number 12"),
    "NLATTR_NEST": (16, "metadata number 16"),
    "MARK": (20, "metadata number 20"),
    "QUEUE": (24, "metadata number 24"),
    "HATYPE": (28, "metadata number 28"),
    "RXHASH": (32, "metadata number 32"),
    "CPU": (36, "metadata number 36"),
    "ALU_XOR_X": (40, "metadata number 40"),
    "VLAN_TAG": (44, "a VLAN tag beside the packet"),
    "VLAN_TAG_PRESENT": (48, "a VLAN tag beside the packet"),
    "PAY_OFFSET": (52, "metadata number 52"),
    "RANDOM": (56, "metadata number 56"),
    "VLAN_TPID": (60, "a VLAN tag beside the packet"),
    "the end": (0xFFF, "metadata number 4095"),
    "NET": (-0x100000 + 0x1000, "offsets from the network header (SKF_NET_OFF)"),
    "NET, the last": (-1, "offsets from the network header (SKF_NET_OFF)"),
    "LL": (-0x200000 + 0x1000, "offsets from the link header (SKF_LL_OFF)"),
}
LOADS = {"byte": 0x30, "half word": 0x28, "word": 0x20, "indexed": 0x40, "header length": 0xB1}


@pytest.mark.parametrize("how", LOADS)
@pytest.mark.parametrize("what", SPECIAL)
def test_a_load_of_metadata_is_refused_by_its_name(what: str, how: str) -> None:
    offset, message = SPECIAL[what]
    classic = struct.pack("=HBBIHBBI", LOADS[how], 0, 0, (0xFFFFF000 + offset) % (1 << 32), 0x06, 0, 0, 1)
    with loaded(SAY_MATCH, ANY_HOOK) as observer, array(ARRAY, bytes(4)) as verdict:
        with pytest.raises(ValueError, match=re.escape(message)):
            _core.FilterProgram(classic, observer, 0, verdict, 0)


def test_a_load_below_the_metadata_is_of_the_packet() -> None:
    classic = struct.pack("=HBBIHBBI", 0x30, 0, 0, 0xFFDFFFFF, 0x06, 0, 0, 1)
    with loaded(SAY_MATCH, ANY_HOOK) as observer, array(ARRAY, struct.pack("=i", NO_MATCH)) as verdict:
        made = _core.FilterProgram(classic, observer, 0, verdict, 0)
        assert Runner(made.program.fileno())(ipv6(TCP, tcp())) == NO_MATCH
        del made


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("outbound", "'inbound' and 'outbound'"),
        ("inbound", "'inbound' and 'outbound'"),
        ("tcp and not inbound", "'inbound' and 'outbound'"),
        ("outbound or tcp", "'inbound' and 'outbound'"),
        ("tcp or outbound", "'inbound' and 'outbound'"),
        ("ifindex 3", "'ifindex'"),
        ("ip6 and not ifindex 3", "'ifindex'"),
        ("ether[0xfffff004] = 4", "'inbound' and 'outbound'"),
        ("ether[0xffffffff] = 1", "metadata number 4095"),
    ],
)
def test_a_word_that_asks_for_metadata_is_refused_with_what_to_do(expression: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        _core.compile_filter(expression)
    assert str(caught.value).startswith(f"filter '{expression}': it asks for ")


BROKEN = {
    "nothing": b"",
    "no end": struct.pack("=HBBI", 0x00, 0, 0, 1),
    "a jump out of it": struct.pack("=HBBIHBBI", 0x15, 5, 0, 1, 0x06, 0, 0, 0),
    "a jump before its start": struct.pack("=HBBIHBBI", 0x05, 0, 0, 0xFFFFFFF0, 0x06, 0, 0, 0),
    "more memory than there is": struct.pack("=HBBIHBBI", 0x60, 0, 0, 16, 0x06, 0, 0, 0),
    "a load of no kind": struct.pack("=HBBIHBBI", 0xE0, 0, 0, 0, 0x06, 0, 0, 0),
    "an operation of no kind": struct.pack("=HBBIHBBI", 0xF4, 0, 0, 0, 0x06, 0, 0, 0),
    "a jump of no kind": struct.pack("=HBBIHBBI", 0xF5, 0, 0, 0, 0x06, 0, 0, 0),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_classic_program_that_is_broken_is_refused(what: str) -> None:
    with loaded(SAY_MATCH, ANY_HOOK) as observer, array(ARRAY, bytes(4)) as verdict:
        with pytest.raises(ValueError, match="classic BPF program"):
            _core.FilterProgram(BROKEN[what], observer, 0, verdict, 0)


@pytest.mark.parametrize("attach_type", [0, 54, 55, 46, 47])
@pytest.mark.parametrize("side", [0, 1])
def test_a_program_of_any_hook_can_be_filtered(attach_type: int, side: int) -> None:
    """Newer kernels let a program be called only from one of its own attach type."""
    with loaded(SAY_MATCH, attach_type) as observer, array(ARRAY, struct.pack("=i", NO_MATCH)) as verdict:
        made = _core.FilterProgram(_core.compile_filter("tcp"), observer, side, verdict, 0)
        run = Runner(made.program.fileno())
        assert [run(ipv6(protocol, bytes(20))) for protocol in (TCP, UDP)] == [MATCH, NO_MATCH]
        del made
