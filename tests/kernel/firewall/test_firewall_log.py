# SPDX-License-Identifier: MIT
"""Events of what rules decided, on the tcx hooks of a veth pair and by BPF_PROG_TEST_RUN."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from pathlib import Path

import pytest

from decoder import decode
from elsewhere import needs_tcx
from firewall_frames import CORPUS, SIDES
from forked import Forked
from in_child import in_child
from netkit_bpf import Firewall, PacketReader, Rule, Ruleset, Side, Verdict
from netkit_bpf.functions.firewall_programs import load_rules
from replacing import log_under_traffic, numbered_datagrams
from traffic import Wire, ping, send_datagrams, towards

pytestmark = needs_tcx

TRAILER = 16  # bytes of struct nk_fw_event behind the packet


def try_to_send(wire: Wire, count: int) -> None:
    """Send datagrams that a rule drops."""
    with wire.left.socket(socket.SOCK_DGRAM) as out:
        for _ in range(count):
            with contextlib.suppress(OSError):  # the sender may be told of a drop at its own hook
                out.sendto(b"x", towards(wire.left, wire.right, 9))


def test_rules_that_say_log_make_events_and_others_make_none(wire: Wire) -> None:
    rules = "pass primary log udp\npass primary icmp\ndrop peer log icmp icmp-type echorep"
    with Firewall(wire.pair, rules) as firewall:
        send_datagrams(wire.left, wire.right, [100, 200])
        assert ping(wire.left, wire.right, [56], timeout=0.2) == 0
        first, second, third = firewall.events(timeout=0)
        assert (first.verdict, first.number, first.rule, first.generation) == (Verdict.NEXT, 0, firewall.rules[0], 0)
        assert [event.packet.length for event in (first, second)] == [142, 242]
        assert (third.verdict, third.number, third.rule) == (Verdict.DROP, 2, firewall.rules[2])
        assert (third.packet.side, third.packet.icmp_type, third.packet.pair_name) == (Side.PEER, 0, "ve0")
        assert third.packet.data is None
        assert str(third) == f"{third.packet} | drop: line 3: {rules.splitlines()[2]}"
        assert firewall.explain(third).rule == third.rule
        told = json.loads(third.to_json())
        assert (told["verdict"], told["rule"], told["src"]) == ("drop", str(third.rule), "10.42.0.2")
        assert third.asdict()["icmp_type"] == 0
        stats = firewall.log.stats
        assert [(side.seen, side.delivered) for side in stats] == [(2, 2), (1, 1)]


def test_the_default_logs_if_it_is_told_to(wire: Wire) -> None:
    with Firewall(wire.pair, "pass arp", sides=["primary"], default="drop", log_default=True) as firewall:
        assert ping(wire.left, wire.right, [56], timeout=0.2) == 0
        event = firewall.log.read(1.0)
        assert event is not None
        while event.packet.family != 4:  # ARP
            event = firewall.log.read(1.0)
            assert event is not None
        assert (event.verdict, event.number, event.rule, event.packet.protocol) == (Verdict.DROP, None, None, 1)
        assert str(event).endswith("| drop: no rule matches")
        firewall.replace("pass icmp\npass arp", default="drop", log_default=False)
        assert not firewall.log_default
        firewall.log.read_batch(timeout=0)
        try_to_send(wire, 1)
        assert firewall.log.read_batch(timeout=0) == []


def test_what_logs_nothing_has_no_ring_and_gets_one_when_it_does(wire: Wire) -> None:
    with Firewall(wire.pair, "pass udp", sides=["primary"]) as firewall:
        with pytest.raises(ValueError, match="no rule says log, nor does the default"):
            firewall.events()
        firewall.replace("pass log udp")
        send_datagrams(wire.left, wire.right, [100])
        firewall.replace("pass udp")  # the ring stays, with what waits there
        send_datagrams(wire.left, wire.right, [100])
        firewall.replace("pass log udp length 1000-1100")
        send_datagrams(wire.left, wire.right, [100, 1000])
        events = list(firewall.events(timeout=0))
        assert [(event.generation, event.packet.length) for event in events] == [(1, 142), (3, 1042)]
        assert [str(event.rule) for event in events] == ["pass log udp", "pass log udp length 1000-1100"]
        log = firewall.log
    assert log.closed
    with pytest.raises(ValueError, match="closed"):
        firewall.events()
    for wrong in (5000, 1 << 31):
        with pytest.raises(ValueError, match="ring_size must be a power of two"):
            Firewall(wire.pair, ring_size=wrong)


def test_events_are_read_in_tasks_and_in_batches(wire: Wire) -> None:
    async def read(firewall: Firewall) -> list[int]:
        lengths = [event.packet.length async for event in firewall.events(timeout=5.0, count=2)]
        async for batch in firewall.log.batches(count=1, timeout=5.0):
            lengths += [event.packet.length for event in batch]
        return lengths

    with Firewall(wire.pair, "pass log udp", sides=["primary"]) as firewall:
        send_datagrams(wire.left, wire.right, [100, 200, 300])
        assert asyncio.run(read(firewall)) == [142, 242, 342]
        send_datagrams(wire.left, wire.right, [100, 200])
        assert sum(len(batch) for batch in firewall.log.batches(timeout=0)) == 2
        firewall.log.close()
        assert firewall.log.read(0) is None  # by a new reader


@pytest.mark.filterwarnings("ignore:the firewall's log of ve0 loses packets")
def test_what_finds_no_room_is_counted(wire: Wire) -> None:
    with Firewall(wire.pair, "drop log udp", sides=["primary"], ring_size=4096) as firewall:
        try_to_send(wire, 100)
        events = list(firewall.events(timeout=0))
        stats = firewall.log.stats.primary
        assert (stats.seen, stats.delivered, stats.pending) == (100, len(events), 0)
        assert stats.lost == 100 - len(events) > 0
        assert firewall.counters[firewall.rules[0]].packets == 100


def test_what_exceeds_a_rate_is_dropped_and_what_is_established_is_not_judged(wire: Wire) -> None:
    rules = "pass primary log udp rate 1/d burst 2\npass arp"
    with Firewall(wire.pair, rules, default="drop", established=True) as firewall:
        with wire.left.socket(socket.SOCK_DGRAM) as out, wire.right.socket(socket.SOCK_DGRAM) as into:
            into.bind(wire.right.name(9))
            for _ in range(2):
                out.sendto(b"x", wire.right.name(9))
            _, sender = into.recvfrom(1)
            into.sendto(b"y", sender)
            assert out.recv(1) == b"y"
            out.sendto(b"x", wire.right.name(9))  # of an established connection
        try_to_send(wire, 1)
        assert [event.verdict for event in firewall.events(timeout=0)] == ["next", "next", "drop"]


@pytest.mark.parametrize("side", SIDES)
def test_an_event_has_all_fields_of_its_packet(side: Side) -> None:
    """Of packets of every kind, as an independent decoder reads them."""
    with load_rules(Ruleset(["pass log length 0-100"]), Verdict.PASS, 7, log_default=True) as loaded:
        loaded.maps["shared"][0] = 7  # in force
        with PacketReader(loaded.maps["verdicts"], pairs=["nk0"], snaplen=TRAILER) as reader:
            for frame in CORPUS:
                said = loaded.programs[f"firewall_{side}"].test_run(frame).retval
                event = reader.read(0)
                assert event is not None
                fields = event.without_data().asdict()
                del fields["timestamp_ns"]
                assert fields == decode(frame, side=side, pair="nk0"), frame.hex()
                assert struct.unpack("=IIiI", event.data or b"") == (7, 0 if len(frame) <= 100 else 1, said, 0)


def test_a_thousand_replacements_name_each_packets_rule_as_it_was(wire: Wire) -> None:
    assert log_under_traffic(wire, 1000) > 1000


def test_events_of_a_pinned_firewall_are_read_by_another_process(wire: Wire, path: Path) -> None:
    with Firewall(wire.pair, "pass arp", sides=["primary"]) as firewall:
        firewall.pin(path)
        for number in range(18):
            firewall.replace(f'pass log udp label "of {number}"')
            send_datagrams(wire.left, wire.right, [100])
    told = in_child(lambda: read_pinned(wire, path)).splitlines()
    assert told == ["None 0", *(f"of {number} 0" for number in range(1, 18))]
    with Firewall.open_pinned(wire.pair, path) as found:
        send_datagrams(wire.left, wire.right, [100])
        with Firewall.open_pinned(wire.pair, path) as second:
            reading = found.events(timeout=0)
            with pytest.raises(ValueError, match="already has a reader"):
                second.events()
            assert [event.rule for event in reading] == [Rule.parse('pass log udp label "of 17"')]
        found.unpin()
        assert not path.exists()


def test_a_reader_names_the_rules_that_another_process_replaces(wire: Wire, path: Path) -> None:
    """Where it comes too late for a ruleset it says so."""
    with Firewall.replace_pinned(wire.pair, 'pass primary log udp label "of 0"', path) as firewall:
        log = firewall.log  # its thread empties the ring from now on
        with numbered_datagrams(wire) as numbered:
            child = Forked(lambda: replace_often(wire, path, 30))
        child.kill()
        events = list(log.events(timeout=0))
        assert log.stats.total.lost == 0
        firewall.unpin()
    assert len(events) == numbered.sent
    assert events[-1].generation == 30
    named = [(event.generation, event.rule.name) for event in events if event.rule is not None]
    assert named == [(generation, f"of {generation}") for generation, _ in named]
    known = {generation for generation, _ in named}
    assert known >= set(range(15, 31)) & {event.generation for event in events}


def replace_often(wire: Wire, path: Path, times: int) -> None:
    with Firewall.open_pinned(wire.pair, path) as found:
        for number in range(1, times + 1):
            found.replace(f'pass primary log udp label "of {number}"')


def read_pinned(wire: Wire, path: Path) -> str:
    with Firewall.open_pinned(wire.pair, path) as found:
        return "\n".join(f"{event.rule and event.rule.name} {event.number}" for event in found.events(timeout=0))
