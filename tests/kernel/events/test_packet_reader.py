# SPDX-License-Identifier: MIT
"""A monitor as a user writes one: a program of their own, an observer on both hooks, packet events from its ring."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from elsewhere import needs_tcx
from netkit_bpf import BPFObject, EventBatch, Filter, Map, NetkitPair, Observer, PacketReader, Side
from netkit_bpf.functions import monitor_programs
from netkit_bpf.functions.cpu_rings import make_cpu_rings
from packets import ipv6, udp
from programs import HEADER, build
from pytest_netkit_bpf.leaks import Resources
from sender import Sender
from veth import quiet_pair, veth_pairs

SOURCE = (
    HEADER
    + """
#include <netkit_bpf/event.h>

volatile __s32 verdict[2] SEC(".data") = { NETKIT_NEXT, NETKIT_NEXT };
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } events SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); __uint(max_entries, NK_SIDES); __type(key, __u32);
	__type(value, struct nk_counts); } counts SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } silent SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); __uint(max_entries, 1); __type(key, __u32);
	__type(value, struct nk_counts); } silent_counts SEC(".maps");

static __always_inline int write(struct __sk_buff *skb, const __u8 side)
{
	struct { struct nk_event event; __u8 data[16]; } record = {};
	__u32 key = side;
	struct nk_counts *count = bpf_map_lookup_elem(&counts, &key);

	if (!count)
		return verdict[side];
	count->seen++;
	record.event.timestamp = bpf_ktime_get_ns();
	record.event.length = skb->len;
	record.event.ethertype = bpf_ntohs(skb->protocol);
	record.event.side = side;
	bpf_skb_load_bytes(skb, 0, record.data, sizeof(record.data));
	if (bpf_ringbuf_output(&events, &record, sizeof(record), 0))
		count->lost++;
	return verdict[side];
}

SEC("netkit/primary") int of_primary(struct __sk_buff *skb) { return write(skb, NK_PRIMARY); }
SEC("netkit/peer") int of_peer(struct __sk_buff *skb) { return write(skb, NK_PEER); }
"""
)
SNAPLEN = 16
FRAME = ipv6(17, udp())


@pytest.fixture
def obj() -> Iterator[BPFObject]:
    with BPFObject.open(build(SOURCE)) as loaded:
        yield loaded


@pytest.fixture
def pair() -> Iterator[NetkitPair]:
    with quiet_pair() as made:
        yield made


def test_events_of_a_users_program_are_packet_events(obj: BPFObject) -> None:
    with PacketReader(obj.maps["events"], pairs=["one"], snaplen=SNAPLEN) as reader:
        obj.programs["of_peer"].test_run(FRAME)
        event = reader.read(10.0)
        assert event is not None
        assert (event.pair_name, event.side, event.length, event.data) == (
            "one",
            Side.PEER,
            len(FRAME),
            FRAME[:SNAPLEN],
        )
        obj.programs["of_primary"].test_run(FRAME, repeat=3)
        batch = reader.read_batch(timeout=10.0)
        while len(batch) < 3:
            batch = EventBatch.concat([batch, reader.read_batch(timeout=10.0)])
        assert [each.side for each in batch] == [Side.PRIMARY] * 3
        assert reader.stats == ((3, 3, 0, 0), (1, 1, 0, 0))
        assert reader.stats.reading.ring_size == 4096
        assert repr(reader) == "<PacketReader one open>"
    with pytest.raises(ValueError, match="the packet reader is closed"):
        reader.read_batch()
    assert reader.stats == ((3, 3, 0, 0), (1, 1, 0, 0))


def test_what_finds_no_room_is_lost(obj: BPFObject) -> None:
    with PacketReader(obj.maps["events"], pairs=["one"], queue_size=4096, thread=None, name="witness") as reader:
        obj.programs["of_peer"].test_run(FRAME, repeat=1000)
        with pytest.warns(RuntimeWarning, match="the witness of one loses packets: .* ring of 4096 bytes .*given once"):
            delivered = len(list(reader.events(timeout=0.5)))
        seen, counted, lost, pending = reader.stats.peer
        assert (seen, counted, pending) == (1000, delivered, 0)
        assert lost == 1000 - delivered > 0


def test_the_rings_of_all_cpus_are_read_by_one() -> None:
    with closing(monitor_programs.load_programs(0, 4096, rings="ordered")) as obj:
        rings = make_cpu_rings(obj, 4096)
        with PacketReader(rings, pairs=["one"], rings="ordered") as reader:
            obj.programs["monitor_peer"].test_run(FRAME, repeat=10)
            assert [event.length for event in reader.events(timeout=0.5)] == [len(FRAME)] * 10
            assert reader.stats.peer == (10, 10, 0, 0)
            assert reader.stats.reading.ring_size == 4096 * len(rings)
            for order in (rings, rings[:1]):
                with pytest.raises(ValueError, match="map 'events' already has a reader"):
                    PacketReader(order, pairs=["one"])
        for wrong in ([], [rings[0], rings[0]]):
            with pytest.raises(ValueError, match="map must be a ring buffer, or several different ones"):
                PacketReader(wrong, pairs=["one"])
        with pytest.raises(TypeError, match="map 'counts' is of type percpu_array"):
            PacketReader([*rings, obj.maps["counts"]], pairs=["one"])


@needs_tcx
def test_an_observer_of_ones_own_is_read_until_its_pair_is_gone(obj: BPFObject, pair: NetkitPair) -> None:
    only = Filter("udp port 2")
    programs = {"primary": obj.programs["of_primary"], "peer": obj.programs["of_peer"]}
    with (
        Observer(pair, programs, verdict=obj.variables["verdict"], name="witness", filter=only) as observer,
        PacketReader(obj.maps["events"], observers=[observer], snaplen=SNAPLEN) as reader,
        Sender(pair) as send,
    ):
        assert (observer.device, observer.sides, observer.filter) == ("ve0", (Side.PRIMARY, Side.PEER), only)
        send(3)
        event = reader.read(10.0)
        assert event is not None
        assert (event.pair_name, event.side) == ("ve0", Side.PRIMARY)
        assert reader.filtered == (2, 0)

        async def one() -> object:
            return await anext(aiter(reader))

        send.sent = 1
        send()
        assert asyncio.run(asyncio.wait_for(one(), 20)) is not None
        assert reader.stats.primary == (2, 2, 0, 0)
        pair.delete()
        with pytest.raises(OSError, match=r"witness ve0: No such device .*was deleted"):
            reader.read(10.0)


@needs_tcx
def test_a_capture_names_the_devices(obj: BPFObject, pair: NetkitPair, tmp_path: Path) -> None:
    with (
        Observer(pair, {"primary": obj.programs["of_primary"]}, verdict=obj.variables["verdict"]) as observer,
        PacketReader(obj.maps["events"], observers=[observer], snaplen=SNAPLEN) as reader,
        Sender(pair) as send,
    ):
        send(2)
        assert reader.capture(tmp_path / "two.pcapng", count=2) == 2
    written = (tmp_path / "two.pcapng").read_bytes()
    assert b"primary of the pair ve0" in written
    assert b"peer of the pair" not in written


def test_wrong_arguments_are_refused(obj: BPFObject) -> None:
    events = obj.maps["events"]
    with pytest.raises(TypeError, match="map 'counts' is of type percpu_array: PacketReader reads a ringbuf"):
        PacketReader(obj.maps["counts"], pairs=["one"])
    with pytest.raises(ValueError, match="map 'silent' has no counts: define a per-CPU array with a struct nk_counts"):
        PacketReader(obj.maps["silent"], pairs=["one"])
    with pytest.raises(ValueError, match="give the observers, or the names of the pairs"):
        PacketReader(events)
    with pytest.raises(TypeError, match="pairs must be a sequence of names, not a str"):
        PacketReader(events, pairs="one")
    with pytest.raises(TypeError, match="each of observers must be an Observer, not str"):
        PacketReader(events, observers=["one"])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="snaplen must be 0 to"):
        PacketReader(events, pairs=["one"], snaplen=-1)
    with pytest.raises(ValueError, match="queue_size must be at least 4096 bytes"):
        PacketReader(events, pairs=["one"], queue_size=1)
    with pytest.raises(ValueError, match="map 'events' is not loaded"):
        PacketReader(BPFObject.open(build(SOURCE)).maps["events"], pairs=["one"])
    with PacketReader(events, pairs=["one"]) as reader:
        with pytest.raises(ValueError, match="keeps no packet data"):
            reader.capture(os.devnull)
        with pytest.raises(ValueError, match="map 'events' already has a reader"):
            PacketReader(events, pairs=["one"])


def test_counts_of_another_form_are_refused(obj: BPFObject) -> None:
    with (
        PacketReader(obj.maps["events"], by_pair=True) as reader,
        Map.create("percpu_array", max_entries=128, key_size=4, value_size=64, name="larger") as larger,
        Map.create("array", max_entries=128, key_size=4, value_size=16, name="plain") as plain,
    ):
        for wrong, pairs in ((larger, 1), (plain, 1), (obj.maps["counts"], 2)):
            with pytest.raises(ValueError, match=f"map '{wrong.name}' is not a per-CPU array with a struct nk_counts"):
                reader.add_counts(wrong, pairs)
            with pytest.raises(ValueError, match=f"map '{wrong.name}' is not a per-CPU array of .* elements with 2 co"):
                reader._stream.add_counts(wrong._fileno(), pairs)
        with pytest.raises(ValueError, match="pairs must be 1 to"):
            reader.add_counts(obj.maps["counts"], 0)
        reader.add_counts(obj.maps["counts"], 1)
        assert reader.stats.pairs == ()


def test_a_pair_that_was_never_added_is_refused(obj: BPFObject) -> None:
    with PacketReader(obj.maps["events"], by_pair=True) as reader:
        reader.add_pair("one")
        for number in (-1, 1, 99):
            with pytest.raises(ValueError, match=f"there is no pair number {number}"):
                reader.remove_pair(number)


@needs_tcx
def test_a_pair_that_is_gone_before_it_starts_does_not_undo_the_end(obj: BPFObject) -> None:
    def observe(pair: NetkitPair) -> Observer:
        return Observer(pair, {"peer": obj.programs["of_peer"]}, verdict=obj.variables["verdict"])

    with (
        veth_pairs(4, silent=True) as pairs,
        PacketReader(obj.maps["events"], by_pair=True, thread=None) as reader,  # which looks when it is read
    ):
        first, second, third = [observe(pair) for pair in pairs[:3]]
        for number, observer in enumerate((first, second)):
            assert reader.add_pair(observer.device) == number
            reader.start_pair(number, observer)
        with pytest.raises(ValueError, match="there is no pair number -1"):
            reader.start_pair(-1, third)
        pairs[2].delete()
        pairs[0].delete()
        assert reader.read(0.5) is None
        assert reader.observers == (second,)
        reader.remove_pair(1)
        with pytest.raises(OSError, match="was deleted"):
            reader.start_pair(reader.add_pair(third.device), third)
        third.close()
        pairs[3].delete()  # a change, so that the reader looks again
        with pytest.raises(OSError, match="was deleted"):
            reader.read(10.0)


@needs_tcx
def test_a_closed_observer_is_not_read(obj: BPFObject, pair: NetkitPair) -> None:
    observer = Observer(pair, {"peer": obj.programs["of_peer"]}, verdict=obj.variables["verdict"])
    observer.close()
    with pytest.raises(ValueError, match="the observer of ve0 is closed"):
        PacketReader(obj.maps["events"], observers=[observer])


@needs_tcx
def test_a_closed_observer_holds_nothing(pair: NetkitPair) -> None:
    before = Resources.now()
    obj = BPFObject.open(build(SOURCE))
    obj.load()
    observer = Observer(pair, {"peer": obj.programs["of_peer"]}, verdict=obj.variables["verdict"], filter="udp")
    reader = PacketReader(obj.maps["events"], observers=[observer])
    for each in (observer, reader, obj):
        each.close()
    assert before.wait_until_back() == []
    assert observer.filtered == reader.filtered == (0, 0)


def test_a_filter_is_made_once() -> None:
    made = Filter("udp port 2")
    assert made.expression == "udp port 2"
    assert repr(made) == "<Filter 'udp port 2'>"
    with pytest.raises(ValueError, match="syntax error"):
        Filter("udp and and")
