"""Ring buffers of users' own programs: typed records, one by one, in arrays and in tasks."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from netkit_bpf import BPFObject, Map, RingBuffer, RingStats
from programs import HEADER, build

# Twelve fields, each of another type; nothing of it is said again in Python.
SOURCE = (
    HEADER
    + """
enum kind { QUIET, LOUD = 7 };
struct place { __s16 x, y; };
struct event {
	__u64 number;
	__s32 balance;
	__u16 port;
	__u8 hop_limit;
	_Bool last;
	enum kind kind;
	char name[8];
	__u8 mac[6];
	__u32 words[2];
	struct place where;
	double ratio;
	void *origin;
};

struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 64 << 10); __type(value, struct event); }
	events SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); __uint(max_entries, 1); __type(key, __u32);
	__type(value, struct nk_counts); } events_counts SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } plain SEC(".maps");
struct line { __u16 size; char text[]; };
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); __type(value, struct line); }
	texts SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } places SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, __u32); __type(value, __u32); }
	array SEC(".maps");
volatile __u64 number;
volatile __u64 ratio;	/* the bits of a double: programs have no floating point */
volatile struct place *mention;

SEC("netkit/peer") int write(struct __sk_buff *skb)
{
	__u32 zero = 0;
	struct nk_counts *count = bpf_map_lookup_elem(&events_counts, &zero);
	struct event *event;

	if (!count)
		return 0;
	count->seen++;
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event) {
		count->lost++;
		return 0;
	}
	__builtin_memset(event, 0, sizeof(*event));
	event->number = number++;
	event->balance = -(__s32)event->number;
	event->port = 65535 - event->number;
	event->hop_limit = event->number;
	event->last = event->number % 2;
	event->kind = event->last ? LOUD : QUIET;
	__builtin_memcpy(event->name, "netkit", 6);
	event->mac[5] = event->number;
	event->words[1] = ~event->number;
	event->where.y = -(__s16)event->number;
	__builtin_memcpy(&event->ratio, (void *)&ratio, sizeof(ratio));
	event->origin = (void *)0xffff000000000001;
	bpf_ringbuf_submit(event, 0);
	return 0;
}

SEC("netkit/peer") int write_others(struct __sk_buff *skb)
{
	struct place place = { 3, -4 };
	struct { __u16 size; char text[6]; } line = { 3, "abc" };
	__u32 word = 0x01020304;

	bpf_ringbuf_output(&plain, &word, sizeof(word), 0);
	bpf_ringbuf_output(&plain, &word, 3, 0);
	bpf_ringbuf_output(&texts, &line, sizeof(line), 0);
	bpf_ringbuf_output(&places, &place, sizeof(place), 0);
	return 0;
}
"""
).replace("<netkit.h>", "<netkit.h>\n#include <netkit_bpf/event.h>")
PACKET = bytes(60)


def expected(number: int) -> tuple[Any, ...]:
    """What the program writes as the event of this number."""
    return (
        *(number, -number, 65535 - number, number % 256, bool(number % 2), 7 * (number % 2), b"netkit"),
        *(bytes(5) + bytes([number % 256]), (0, ~number & 0xFFFFFFFF), (0, -number), 0.75, 0xFFFF000000000001),
    )


@pytest.fixture
def obj() -> Iterator[BPFObject]:
    opened = BPFObject.open(build(SOURCE))
    opened.variables["ratio"].value = int.from_bytes(np.float64(0.75).tobytes(), "little")
    with opened:
        yield opened


@pytest.fixture
def events(obj: BPFObject) -> Iterator[RingBuffer]:
    with RingBuffer(obj.maps["events"]) as ring:
        yield ring


def write(obj: BPFObject, count: int) -> None:
    obj.programs["write"].test_run(PACKET, repeat=count)


def test_records_arrive_typed_in_python(obj: BPFObject, events: RingBuffer) -> None:
    write(obj, 300)
    received = list(events.events(timeout=0.3))
    assert [tuple(event) for event in received] == [expected(number) for number in range(300)]
    first, second = received[:2]
    assert type(first).__name__ == "event"
    assert first._fields[:3] == ("number", "balance", "port")
    assert (first.kind.name, second.kind.name) == ("QUIET", "LOUD")
    assert (second.where.x, second.where.y) == (0, -1)
    assert [type(first.last), type(first.name), type(first.mac), type(first.ratio)] == [bool, bytes, bytes, float]
    with pytest.raises(AttributeError):
        first.number = 7
    assert events.stats == RingStats(300, 300, 0, 0)
    assert events.type == "struct event"


def test_records_arrive_in_numpy(obj: BPFObject, events: RingBuffer) -> None:
    write(obj, 300)
    parts: list[Any] = []
    while sum(len(part) for part in parts) < 300:
        parts.append(events.read_batch(timeout=10.0))
    array = np.concatenate(parts)
    assert array.dtype.names is not None
    assert len(array.dtype.names) == 12
    assert array.dtype["words"].shape == (2,)
    rows = [tuple(value.tolist() if hasattr(value, "tolist") else value for value in row) for row in array]
    for number, row in enumerate(rows):
        wanted = expected(number)
        assert row[:7] == wanted[:7]
        assert (bytes(row[7]), tuple(row[8]), row[9], row[10:]) == (*wanted[7:10], wanted[10:])
    assert events.read_batch(timeout=0.0).shape == (0,)
    assert events.stats.delivered == 300


def test_one_declaration_in_c_serves_python_numpy_and_tasks(obj: BPFObject, events: RingBuffer) -> None:
    write(obj, 300)
    one_by_one = [events.read(timeout=10.0) for _ in range(100)]
    array = np.concatenate([events.read_batch(1, timeout=10.0) for _ in range(100)])

    async def rest() -> list[Any]:
        received = []
        async for event in events:
            received.append(event)
            if len(received) == 100:
                break
        return received

    in_a_task = asyncio.run(asyncio.wait_for(rest(), 20))
    assert [tuple(event) for event in one_by_one + in_a_task] == [
        expected(number) for number in (*range(100), *range(200, 300))
    ]
    names = array.dtype.names
    assert names == one_by_one[0]._fields
    for number, row in zip(range(100, 200), array, strict=True):
        assert row["number"] == number
        for name, value in zip(names or (), expected(number), strict=True):
            plain = row[name].tolist()
            assert (type(value)(plain) if isinstance(plain, (list, tuple)) else plain) == value, name


def test_a_batch_is_no_larger_than_asked_for(obj: BPFObject, events: RingBuffer) -> None:
    write(obj, 100)
    assert events.read(timeout=10.0).number == 0
    taken: list[int] = []
    while len(taken) < 99:
        part = events.read_batch(7, timeout=10.0)
        assert 1 <= len(part) <= 7
        taken += part["number"].tolist()
    assert taken == list(range(1, 100))
    for wrong in (0, -1):
        with pytest.raises(ValueError, match="max_events must be at least 1"):
            events.read_batch(wrong)


def test_losses_are_counted_by_the_program(obj: BPFObject, events: RingBuffer) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        events.close()
        with RingBuffer(obj.maps["events"], queue_size=4096) as ring:
            for _ in range(200):
                write(obj, 100)
            delivered = len(list(ring.events(timeout=0.3)))
            stats = ring.stats
    assert stats.seen == 20_000
    assert stats.lost is not None
    assert stats.lost > 0
    assert (stats.delivered, stats.pending) == (delivered, 0)
    assert stats.seen == stats.delivered + stats.lost
    assert any("ring buffer 'events' loses records" in str(each.message) for each in caught)


def test_records_without_a_type_are_bytes(obj: BPFObject) -> None:
    obj.programs["write_others"].test_run(PACKET)
    with RingBuffer(obj.maps["plain"]) as plain:
        assert plain.type == "bytes"
        assert list(plain.events(timeout=0.3)) == [b"\4\3\2\1", b"\4\3\2"]
        assert plain.stats == RingStats(None, 2, None, 0)
        with pytest.raises(TypeError, match="records of type bytes have no fixed size"):
            plain.read_batch(timeout=0.0)
    with RingBuffer(obj.maps["texts"], type=bytes) as texts:
        assert texts.read(timeout=10.0) == b"\3\0abc\0\0\0"


def test_a_type_is_found_by_the_maps_name_or_named(obj: BPFObject) -> None:
    obj.programs["write_others"].test_run(PACKET)
    with RingBuffer(obj.maps["places"]) as places:
        assert places.read(timeout=10.0) == (3, -4)
    with RingBuffer(obj.maps["plain"], type="unsigned int") as plain:
        assert plain.read(timeout=10.0) == 0x01020304
        with pytest.raises(ValueError, match="unsigned int takes 4 bytes, not 3"):
            plain.read(timeout=10.0)
        obj.programs["write_others"].test_run(PACKET)
        assert plain.read_batch(timeout=10.0).tolist() == [0x01020304]
        with pytest.raises(ValueError, match="a record of 3 bytes does not fit a type of 4 bytes"):
            plain.read_batch(timeout=10.0)
    with pytest.raises(LookupError, match="the object has no type 'struct nix'"):
        RingBuffer(obj.maps["plain"], type="struct nix")


def test_a_flexible_array_takes_what_is_left_of_a_record(obj: BPFObject) -> None:
    obj.programs["write_others"].test_run(PACKET)
    with RingBuffer(obj.maps["texts"]) as texts:
        line = texts.read(timeout=10.0)
        assert (line.size, line.text) == (3, b"abc")
        with pytest.raises(TypeError, match="records of type struct line have no fixed size"):
            texts.read_batch(timeout=0.0)


def test_tasks_wait_for_records(obj: BPFObject, events: RingBuffer) -> None:
    async def read() -> list[Any]:
        received = []
        async for event in events:
            received.append(event)
            if len(received) == 200:
                break
        return received

    async def both() -> list[Any]:
        reading = asyncio.create_task(read())
        await asyncio.sleep(0)  # it waits by now
        for _ in range(2):
            write(obj, 100)
            await asyncio.sleep(0.01)
        return await asyncio.wait_for(reading, 20)

    received = asyncio.run(both())
    assert [tuple(event) for event in received] == [expected(number) for number in range(200)]


def test_it_can_be_waited_for_by_select(obj: BPFObject, events: RingBuffer) -> None:
    assert select.select([events], [], [], 0)[0] == []
    write(obj, 1)
    assert select.select([events], [], [], 10)[0] == [events]
    assert events.read(timeout=0).number == 0


def test_close_wakes_a_blocked_read(events: RingBuffer) -> None:
    result: list[Any] = ["nothing"]
    thread = threading.Thread(target=lambda: result.append(events.read()))
    thread.start()
    events.close()
    thread.join(10)
    assert not thread.is_alive()
    assert result[1:] in ([None], [])  # it had not begun, perhaps


def test_several_ring_buffers_share_one_thread(obj: BPFObject) -> None:
    def threads() -> int:
        return sum("netkit" in name for name in _thread_names())

    before = threads()
    with RingBuffer(obj.maps["events"]), RingBuffer(obj.maps["plain"]), RingBuffer(obj.maps["texts"]) as texts:
        obj.programs["write_others"].test_run(PACKET)
        assert texts.read(timeout=10.0).size == 3
        assert threads() == before + 1  # it has its name by now
    with RingBuffer(obj.maps["plain"], thread=None) as plain:
        obj.programs["write_others"].test_run(PACKET)
        assert plain.read(timeout=10.0) == b"\4\3\2\1"
        assert threads() == before


def _thread_names() -> list[str]:
    from pathlib import Path

    return [(path / "comm").read_text() for path in Path("/proc/self/task").iterdir()]


def test_a_ring_buffer_has_one_reader(obj: BPFObject, events: RingBuffer) -> None:
    with pytest.raises(ValueError, match="map 'events' already has a reader: a ring buffer has one consumer"):
        RingBuffer(obj.maps["events"])
    events.close()
    kept = [RingBuffer(obj.maps["events"])]
    write(obj, 1)
    assert kept[0].read(timeout=10.0).number == 0
    with pytest.warns(ResourceWarning, match="RingBuffer of events, made at .*, was never closed"):
        kept.clear()
    RingBuffer(obj.maps["events"]).close()


def test_a_forked_child_neither_reads_it_nor_harms_it(obj: BPFObject, events: RingBuffer) -> None:
    child = os.fork()
    if child == 0:
        status = 1
        with contextlib.suppress(BaseException):
            for use in (events.read, events.events, events.read_batch, events.__aiter__, lambda: events.stats):
                with pytest.raises(ValueError, match="ring buffer 'events' belongs to the process that made it"):
                    use()
            events.close()
            status = 0
        os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    write(obj, 1)
    assert events.read(timeout=10.0).number == 0


def test_it_outlives_its_object(obj: BPFObject, events: RingBuffer) -> None:
    write(obj, 3)
    obj.close()
    assert [event.number for event in events.events(timeout=0.3)] == [0, 1, 2]
    assert events.stats == RingStats(3, 3, 0, 0)


def test_wrong_arguments_are_refused(obj: BPFObject) -> None:
    with pytest.raises(TypeError, match="map 'array' is of type array: RingBuffer reads a ringbuf"):
        RingBuffer(obj.maps["array"])
    with pytest.raises(TypeError, match="map must be a Map, not str"):
        RingBuffer("events")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="type must be a str, not int: the name of a C type, or bytes"):
        RingBuffer(obj.maps["events"], type=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="queue_size must be at least 4096 bytes, not 1"):
        RingBuffer(obj.maps["events"], queue_size=1)
    unloaded = BPFObject.open(build(SOURCE))
    with pytest.raises(ValueError, match="map 'events' is not loaded"):
        RingBuffer(unloaded.maps["events"])


def test_use_after_close_is_a_value_error(obj: BPFObject, events: RingBuffer) -> None:
    write(obj, 2)
    assert events.read(timeout=10.0).number == 0
    iterator = iter(events)
    assert repr(events) == "<RingBuffer events of struct event open>"
    events.close()
    events.close()
    assert events.closed
    assert repr(events) == "<RingBuffer events of struct event closed>"
    assert events.stats == RingStats(2, 1, 0, 1)
    assert list(iterator) == []
    for use in (
        *(events.events, events.read, events.read_batch, events.fileno, events.__iter__, events.__aiter__),
        events.__enter__,
    ):
        with pytest.raises(ValueError, match="ring buffer 'events' is closed"):
            use()


def test_a_pinned_ring_buffer_is_read_by_another_object(obj: BPFObject, bpffs: Any) -> None:
    obj.maps["events"].pin(bpffs / "events")
    write(obj, 2)
    with Map.open_pinned(bpffs / "events") as opened, RingBuffer(opened) as ring:
        assert len(ring.read(timeout=10.0)) == 64  # the kernel keeps no types of ring buffers
    with Map.open_pinned(bpffs / "events") as opened, pytest.raises(ValueError, match="has no types"):
        RingBuffer(opened, type="struct event")
    obj.maps["events"].unpin()
