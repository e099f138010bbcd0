# SPDX-License-Identifier: MIT
"""What the flow metrics' programs count is what they were given, to the last packet and byte, natively."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from corpus import all_packets
from counting import PAIR, Counting, by_ports
from decoder import decode
from in_child import in_child
from native import may_be_refused
from netkit_bpf import Flow, Side, TCPFlags
from packets import arp, ethernet, ipv4, ipv6, tagged, tcp, udp

KEY = ("family", "src", "dst", "protocol", "src_port", "dst_port", "icmp_type", "icmp_code", "ethertype", "side")
SLOTS = 256
FLOWS = 4 * SLOTS
SYN, ACK = 0x02, 0x10


def frame_of(port: int) -> bytes:
    return ipv6(17, udp(src_port=port))


def key_of(frame: bytes, side: Side) -> tuple[object, ...]:
    fields = decode(frame, side=side, pair=PAIR)
    return tuple(fields[name] for name in KEY)


def test_each_packet_is_counted_in_the_flow_that_an_independent_decoder_finds() -> None:
    with Counting(slots=8192) as counting:
        packets: Counter[tuple[object, ...]] = Counter()
        octets: Counter[tuple[object, ...]] = Counter()
        for corpus in all_packets().values():
            for frame in corpus.values():
                for side in Side:
                    if may_be_refused(frame):
                        continue
                    counting.send(frame, side, count=3)
                    packets[key_of(frame, side)] += 3
                    octets[key_of(frame, side)] += 3 * len(frame)
        table = counting.snapshot()
        found = {tuple(getattr(flow, name) for name in KEY): flow for flow in table}
        assert len(found) == len(table)
        assert {key: flow.packets for key, flow in found.items()} == packets
        assert {key: flow.skbs for key, flow in found.items()} == packets
        assert {key: flow.bytes for key, flow in found.items()} == octets
        assert table.total == (len(packets), sum(packets.values()), sum(packets.values()), sum(octets.values()))


@pytest.mark.parametrize("passes", [1, 3])
def test_four_times_more_flows_than_slots_lose_nothing(passes: int) -> None:
    with Counting(SLOTS) as counting:
        sent: Counter[int] = Counter()
        for _ in range(passes):
            for port in range(1, FLOWS + 1):
                counting.send(frame_of(port), count=port % 5 + 1)
                sent[port] += port % 5 + 1
        table = counting.snapshot()
        assert by_ports(table) == sent
        assert table.total.flows == FLOWS
        assert table.total.packets == table.total.skbs == sum(sent.values())
        assert table.total.bytes == sum(sent.values()) * len(frame_of(1))
        assert all(flow.is_attributed for flow in table)


def test_what_finds_the_ring_full_is_counted_by_side() -> None:
    with Counting(4, ring_size=4096) as counting:
        for port in range(1, FLOWS + 1):
            counting.send(frame_of(port), Side.PEER if port % 4 else Side.PRIMARY, count=2)
        table = counting.snapshot()  # the reader comes only now
        rest = {flow.side: flow for flow in table if not flow.is_attributed}
        assert {*rest} == {*Side}
        assert (rest[Side.PEER].src, rest[Side.PEER].first_ns) == (None, None)
        assert rest[Side.PEER].flows > FLOWS / 2
        assert table.total == (FLOWS, 2 * FLOWS, 2 * FLOWS, 2 * FLOWS * len(frame_of(1)))
        assert {side: count.packets for side, count in table.by("side").items()} == {
            Side.PEER: 2 * FLOWS * 3 // 4,
            Side.PRIMARY: 2 * FLOWS // 4,
        }


def test_flows_beyond_the_most_that_are_remembered_stay_counted() -> None:
    with Counting(4, most_flows=100) as counting:
        for port in range(1, FLOWS + 1):
            counting.send(frame_of(port))
            if port % 50 == 0:
                assert counting.snapshot().total.packets == port
        table = counting.snapshot()
        assert table.total[:2] == (FLOWS, FLOWS)
        assert 50 < sum(flow.is_attributed for flow in table) <= 100 + 8


def test_what_came_since_counts_nothing_twice_that_is_no_longer_told_apart() -> None:
    with Counting(4, most_flows=50) as counting:
        earlier = counting.snapshot()
        for turn in range(1, 6):
            for port in range(1, FLOWS // 2):
                counting.send(frame_of(port), Side.PEER, count=turn)
            later = counting.snapshot()
            moved = later.since(earlier)
            assert moved.total[1:3] == (turn * (FLOWS // 2 - 1),) * 2
            assert moved.total.bytes == later.total.bytes - earlier.total.bytes
            earlier = later
        assert len(earlier.since(earlier)) == 0


def send_all_the_time(counting: Counting, side: Side, cpu: int, ports: range, done: threading.Event) -> int:
    os.sched_setaffinity(0, {cpu})
    sent = 0
    while True:  # all of it once, however late the thread comes to run
        for port in ports:
            counting.send(frame_of(port), side, count=3)
            sent += 3
        if done.is_set():
            return sent


@pytest.mark.parametrize("slots", [4, SLOTS])
def test_snapshots_of_two_cpus_at_once_never_go_back_and_end_exact(slots: int) -> None:
    cpus = sorted(os.sched_getaffinity(0))
    done = threading.Event()
    sent: list[int] = []
    ports = {Side.PRIMARY: range(1, FLOWS), Side.PEER: range(1000, 1000 + FLOWS)}
    with Counting(slots) as counting:
        threads = [
            threading.Thread(target=lambda a=a: sent.append(send_all_the_time(*a)))
            for a in (
                (counting, Side.PRIMARY, cpus[0], ports[Side.PRIMARY], done),
                (counting, Side.PEER, cpus[-1], ports[Side.PEER], done),
            )
        ]
        for thread in threads:
            thread.start()
        seen = [counting.snapshot().total for _ in range(200)]
        done.set()
        for thread in threads:
            thread.join()
        final = counting.snapshot()
    assert [each.packets for each in seen] == sorted(each.packets for each in seen)
    assert seen[-1].packets <= final.total.packets == sum(sent)
    assert final.total.bytes == sum(sent) * len(frame_of(1))
    assert final.total.flows == 2 * FLOWS - 1
    assert len({(flow.side, flow.src_port) for flow in final}) == len(final)
    for side, count in final.by("side").items():
        assert count.packets in sent, side


@pytest.fixture
def move() -> Iterator[Callable[[], None]]:
    """Lets this thread go on on another CPU, if there is one."""
    before = os.sched_getaffinity(0)
    cpus = itertools.cycle([min(before), max(before)])
    yield lambda: os.sched_setaffinity(0, {next(cpus)})
    os.sched_setaffinity(0, before)


@pytest.mark.parametrize("moves", [False, True], ids=["one CPU", "each packet on another CPU"])
def test_a_handshake_is_timed_from_the_syn_to_its_answer_in_both_directions(
    move: Callable[[], None], moves: bool
) -> None:
    def forth(port: int, flags: int) -> bytes:
        return ipv4(6, tcp(flags, port, 443))

    def back(port: int, flags: int) -> bytes:
        frame = ipv4(6, tcp(flags, 443, port))
        return frame[:26] + frame[30:34] + frame[26:30] + frame[34:]  # the addresses the other way round

    with Counting() as counting:

        def send(frame: bytes, side: Side) -> None:
            if moves:
                move()
            counting.send(frame, side)

        for port in (1, 2):
            begin = time.monotonic_ns()
            for _ in range(port):  # that of port 2 is sent again
                send(forth(port, SYN), Side.PEER)
            middle = time.monotonic_ns()
            send(back(port, SYN | ACK), Side.PRIMARY)
            if moves:
                move()  # else the third packet comes where the first one was
            end = time.monotonic_ns()
            send(forth(port, ACK), Side.PEER)
            if port == 1:
                least, most = 0, end - begin
                assert middle < end
        flows = list(counting.snapshot())
    took = {flow.handshake_ns for flow in flows if 1 in (flow.src_port, flow.dst_port)}
    assert len(took) == 1
    (handshake,) = took
    assert handshake is not None
    assert least < handshake < most
    assert {flow.handshake_ns for flow in flows if 2 in (flow.src_port, flow.dst_port)} == {None}
    assert {flow.tcp_flags for flow in flows} == {TCPFlags.SYN | TCPFlags.ACK}


def test_times_are_those_of_the_clock_within_a_few_ticks() -> None:
    with Counting() as counting:
        begin = time.time_ns()
        counting.send(frame_of(1))
        time.sleep(0.05)
        counting.send(frame_of(1))
        end = time.time_ns()
        (flow,) = counting.snapshot()
    slack = 30_000_000
    assert flow.first_ns is not None
    assert flow.last_ns is not None
    assert begin - slack <= flow.first_ns <= flow.last_ns - 20_000_000
    assert flow.last_ns <= end + slack


def test_tags_and_arp_and_strangers_are_flows() -> None:
    with Counting() as counting:
        counting.send(tagged(frame_of(7)))
        counting.send(frame_of(7))
        counting.send(ethernet(0x0806, arp()))
        counting.send(ethernet(0x88CC, bytes(50)))
        table = counting.snapshot()
    assert by_ports(table) == {7: 2}
    assert {flow.ethertype: flow.packets for flow in table if flow.family is None} == {0x0806: 1, 0x88CC: 1}
    assert str(table.top(1)[0]) == "[primary] udp [2001:db8::1]:7 -> [2001:db8:1::2]:53: 2 packets 160 bytes"


def test_after_close_the_last_table_stands() -> None:
    with Counting() as counting:
        counting.send(frame_of(1))
        counting.reader.close()
        counting.reader.close()
        counting.send(frame_of(1))
        assert counting.snapshot().total.packets == 1
        assert counting.snapshot().seconds == counting.snapshot().seconds


def test_a_ring_has_one_reader() -> None:
    with Counting() as counting:
        assert len(counting.snapshot()) == 0
        first = counting.reader
        counting._reader = None
        with pytest.raises(ValueError, match="evicted"):
            counting.reader  # noqa: B018 - makes another one
        counting._reader = first


def test_a_forked_child_is_refused_and_ends_without_harm() -> None:
    with Counting() as counting:
        counting.send(frame_of(1))
        counting.snapshot()

        def ask() -> str:
            with pytest.raises(ValueError, match="belongs to the process that made it"):
                counting.snapshot()
            counting.reader.close()
            return "refused"

        assert in_child(ask) == "refused"
        counting.send(frame_of(1))
        assert counting.snapshot().total.packets == 2


@pytest.mark.parametrize(
    "choose",
    [lambda maps: (maps["evicted"], maps["evicted"]), lambda maps: (maps["flow_sets"], maps["flow_sets"])],
)
def test_maps_of_another_kind_are_refused(choose: Callable[..., tuple[object, object]]) -> None:
    from netkit_bpf import FlowReader

    with Counting() as counting:
        sets, evicted = choose(counting.object.maps)
        with pytest.raises(ValueError, match="map"):
            FlowReader(sets, evicted, counting.object.maps["unattributed"], pair_names=[PAIR], clock=(0, 0))  # type: ignore[arg-type]


def test_flow_is_what_a_table_gives() -> None:
    with Counting() as counting:
        counting.send(frame_of(1))
        (flow,) = counting.snapshot()
        assert isinstance(flow, Flow)
        assert flow.pair_name == PAIR
