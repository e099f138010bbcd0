"""Iterations that end: after silence, after a time in all, after so many; with `for` and with `async for`."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import pytest

from netkit_bpf import BPFObject, PacketReader, RingBuffer
from programs import HEADER, build

SOURCE = (
    HEADER
    + """
#include <netkit_bpf/event.h>
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 65536); __type(value, __u32); } records SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 65536); } packets SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); __uint(max_entries, 2); __type(key, __u32);
	__type(value, struct nk_counts); } packets_counts SEC(".maps");

SEC("netkit/peer") int write(struct __sk_buff *skb)
{
	struct nk_event packet = { .flags = NK_IP };
	__u32 record = 7;

	bpf_ringbuf_output(&records, &record, sizeof(record), 0);
	bpf_ringbuf_output(&packets, &packet, sizeof(packet), 0);
	return -1;
}
"""
)
_T = TypeVar("_T")


@pytest.fixture
def obj() -> Iterator[BPFObject]:
    with BPFObject.open(build(SOURCE)) as made:
        yield made


KINDS: dict[str, Callable[[BPFObject], Any]] = {
    "records": lambda obj: RingBuffer(obj.maps["records"]),
    "packets": lambda obj: PacketReader(obj.maps["packets"], pairs=["nk0"]),
    "packets without a thread": lambda obj: PacketReader(obj.maps["packets"], pairs=["nk0"], thread=None),
}


@pytest.fixture(params=KINDS)
def reader(obj: BPFObject, request: pytest.FixtureRequest) -> Iterator[Any]:
    with KINDS[request.param](obj) as made:
        yield made


def write(obj: BPFObject, count: int) -> None:
    obj.programs["write"].test_run(bytes(60), repeat=count)


def by_for(items: Iterator[_T]) -> list[_T]:
    return list(items)


def by_async_for(items: AsyncIterator[_T]) -> list[_T]:
    async def gather() -> list[_T]:
        return [item async for item in items]

    return asyncio.run(gather())


WAYS: dict[str, Callable[[Any], list[Any]]] = {"for": by_for, "async for": by_async_for}
each_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


@contextmanager
def ping(obj: BPFObject) -> Iterator[None]:
    """One that does not end by itself."""
    done = threading.Event()

    def send() -> None:
        while not done.wait(0.01):
            write(obj, 1)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@each_way
def test_silence_ends_it(obj: BPFObject, reader: Any, way: Callable[[Any], list[Any]]) -> None:
    write(obj, 3)
    assert len(way(reader.events(timeout=0.2))) == 3


@each_way
def test_a_duration_ends_it_though_records_keep_coming(
    obj: BPFObject, reader: Any, way: Callable[[Any], list[Any]]
) -> None:
    with ping(obj):
        start = time.monotonic()
        assert len(way(reader.events(timeout=30.0, duration=0.3))) > 1
        assert 0.3 <= time.monotonic() - start < 20


@each_way
def test_a_count_ends_it_and_leaves_the_rest(obj: BPFObject, reader: Any, way: Callable[[Any], list[Any]]) -> None:
    write(obj, 5)
    assert len(way(reader.events(count=3))) == 3
    assert len(way(reader.events(timeout=0.2))) == 2


@each_way
def test_a_duration_ends_it_in_silence(reader: Any, way: Callable[[Any], list[Any]]) -> None:
    start = time.monotonic()
    assert way(reader.events(duration=0.2)) == []
    assert 0.2 <= time.monotonic() - start < 20


def test_what_has_ended_stays_ended(obj: BPFObject, reader: Any) -> None:
    write(obj, 2)
    events = reader.events(count=1)
    assert len(list(events)) == 1
    assert next(events, None) is None
    ended = reader.events(timeout=0.0)
    assert len(list(ended)) == 1
    write(obj, 1)
    assert next(ended, None) is None


def test_an_error_is_no_record(obj: BPFObject) -> None:
    with RingBuffer(obj.maps["packets"], type="__u32") as ring:
        write(obj, 3)
        events = ring.events(count=2, timeout=0.2)
        for _ in range(3):
            with pytest.raises(ValueError, match="bytes"):
                next(events)
        assert list(events) == []


@each_way
def test_batches_have_the_same_limits(obj: BPFObject, way: Callable[[Any], list[Any]]) -> None:
    with PacketReader(obj.maps["packets"], pairs=["nk0"]) as reader:
        write(obj, 10)
        assert sum(map(len, way(reader.batches(count=7)))) == 7
        assert sum(map(len, way(reader.batches(timeout=0.2)))) == 3
        with ping(obj):
            assert way(reader.batches(timeout=30.0, duration=0.3)) != []


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"timeout": -1}, "timeout must be a number of seconds"),
        ({"duration": -1.0}, "duration must be a number of seconds"),
        ({"count": 0}, "count must be 1 to"),
    ],
)
def test_absurd_limits_are_a_value_error(reader: Any, limits: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        reader.events(**limits)
