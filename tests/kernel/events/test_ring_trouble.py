"""Rings that others read too, records that are none of the kind, and memory that is not there."""

from __future__ import annotations

import errno
import io
import mmap
import os
import random
import resource
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from in_child import in_child
from native import Native
from netkit_bpf import BPFObject, Map, PacketReader, RingBuffer, _core
from netkit_bpf.internal import kernel_release
from programs import HEADER, build
from records import Emitter
from streams import MODES, Options, send_tcp

PAGE = mmap.PAGESIZE
RING = 1 << 16
PACKET = bytes(60)
SOURCE = (
    HEADER
    + """
#include <netkit_bpf/event.h>
struct record { __u32 number; };
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 65536); __type(value, struct record); }
	records SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 65536); } packets SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); __uint(max_entries, 2); __type(key, __u32);
	__type(value, struct nk_counts); } packets_counts SEC(".maps");
volatile __u32 number, bad_at = -1, bad_side;

SEC("netkit/peer") int write(struct __sk_buff *skb)
{
	struct { struct nk_event event; char data[8]; } packet = { .event = { .length = number, .flags = NK_IP } };
	struct record record = { number };
	int bad = number++ == bad_at;

	if (bad && bad_side)
		packet.event.side = 9;
	bpf_ringbuf_output(&records, &record, bad ? 3 : sizeof(record), 0);
	bpf_ringbuf_output(&packets, &packet, bad && !bad_side ? 71 : sizeof(packet), 0);
	return -1;
}
"""
)


@pytest.fixture
def obj() -> Iterator[BPFObject]:
    with BPFObject.open(build(SOURCE)) as made:
        yield made


def write(obj: BPFObject, count: int, bad_at: int = -1 & 0xFFFFFFFF, bad_side: int = 0) -> None:
    obj.variables["bad_at"].value = bad_at
    obj.variables["bad_side"].value = bad_side
    obj.programs["write"].test_run(PACKET, repeat=count)


def open_emitter(**options: Any) -> Emitter[bytes]:
    return Emitter(lambda program, rings, _: _core.Stream(program, rings, bytes, queue_size=1 << 20, **options))


class Pages:
    """A ring buffer's pages, as any program that has the map may map them."""

    def __init__(self, fd: int) -> None:
        self.consumer = mmap.mmap(fd, PAGE)
        self.producer = mmap.mmap(fd, PAGE, prot=mmap.PROT_READ, offset=PAGE)

    def position(self) -> int:
        return int(struct.unpack("=Q", self.producer[:8])[0])

    def consumed(self) -> int:
        return int(struct.unpack("=Q", self.consumer[:8])[0])

    def move_to(self, position: int) -> None:
        self.consumer[:8] = struct.pack("=Q", position)

    def close(self) -> None:
        self.consumer.close()
        self.producer.close()


# Other readers.


def test_a_ring_is_read_once_whatever_object_it_is_opened_by(obj: BPFObject, tmp_path: Path) -> None:
    path = f"/sys/fs/bpf/netkit-bpf-test-{os.getpid()}"
    obj.maps["records"].pin(path)
    try:
        with RingBuffer(obj.maps["records"]) as ring, Map.open_pinned(path) as same:
            with pytest.raises(ValueError, match="map 'records' already has a reader: a ring buffer has one consumer"):
                RingBuffer(same)
            write(obj, 3)
            assert [ring.read(timeout=10.0).number for _ in range(3)] == [0, 1, 2]
        with Map.open_pinned(path) as same, RingBuffer(same, type=bytes) as ring:
            write(obj, 1)
            assert ring.read(timeout=10.0) == struct.pack("=I", 3)
    finally:
        obj.maps["records"].unpin()


def test_a_ring_is_not_taken_by_a_reader_that_could_not_be_made(obj: BPFObject) -> None:
    rings = [obj.maps["packets"], obj.maps["records"]]
    with RingBuffer(obj.maps["records"]):
        with pytest.raises(ValueError, match="already has a reader"):
            PacketReader(rings, pairs=["nk0"])
    PacketReader(rings, pairs=["nk0"]).close()


def test_a_child_may_read_what_its_parent_reads_no_more(obj: BPFObject) -> None:
    def read() -> str:
        with RingBuffer(obj.maps["records"]) as ring:
            write(obj, 1)
            return str(ring.read(timeout=10.0).number)

    with RingBuffer(obj.maps["records"]):
        assert in_child(read) == "0"


def test_a_reader_notices_that_another_program_has_moved_its_position() -> None:
    with open_emitter(thread=None) as emitter, closing(Pages(emitter.program.map("events"))) as pages:
        emitter.emit(8, b"")
        assert emitter.stream.read(10.0) is not None
        for _ in range(3):  # rounds of the ring, which only the other reads
            pages.move_to(pages.position())
            while pages.position() - pages.consumed() < RING - 4096:
                emitter.emit(3400, b"")
        for _ in range(2):
            with pytest.raises(OSError, match="another program has moved its consumer's position") as caught:
                emitter.stream.read(10.0)
            assert caught.value.errno == errno.EBUSY
        emitter.stream.stats()


@pytest.mark.parametrize("position", [3, 8, 1 << 40])
def test_a_ring_whose_position_is_none_is_refused(position: int, obj: BPFObject) -> None:
    with closing(Pages(obj.maps["records"]._fileno())) as pages:
        pages.move_to(position)
        with pytest.raises(OSError, match="ring buffer 'records': another program has moved") as caught:
            RingBuffer(obj.maps["records"])
        assert caught.value.errno == errno.EBUSY
        pages.move_to(0)
        RingBuffer(obj.maps["records"]).close()


MEDDLING = """
import random, sys, time
sys.path[:0] = {path!r}
from contextlib import closing, suppress
from netkit_bpf import _core
from test_ring_trouble import *
with open_emitter(**{options!r}) as emitter, closing(Pages(emitter.program.map("events"))) as pages:
    dice, end = random.Random({seed}), time.monotonic() + 1.0
    while time.monotonic() < end:
        for _ in range(dice.randrange(40)):
            emitter.emit(dice.choice([0, 8, 60, 3400]), bytes([255]) * 64, discard=dice.random() < 0.2)
        there = pages.position()
        back = dice.randrange(RING)
        pages.move_to(dice.choice([there, there - 8, there - back, 0, 5, there + 8, dice.getrandbits(64)]) % (1 << 64))
        with suppress(OSError):
            emitter.stream.read(0)
            emitter.stream.stats()
        with suppress(OSError, ValueError):
            _core.read_records(emitter.stream, 100, 0.0, 8)
print("done")
"""


@pytest.mark.parametrize("options", MODES.values(), ids=MODES)
def test_a_reader_survives_a_program_that_moves_its_position_at_random(options: Options) -> None:
    seed = int(os.environ.get("NETKIT_BPF_SEED", random.getrandbits(32)))
    program = MEDDLING.format(path=[str(Path(__file__).parent), *sys.path], options=options, seed=seed)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", ""), f"NETKIT_BPF_SEED={seed}"


def test_a_ring_that_overwrites_its_records_is_refused_by_name() -> None:
    flags = "__uint(type, BPF_MAP_TYPE_RINGBUF); __uint(map_flags, 1U << 19);"
    source = SOURCE.replace("__uint(type, BPF_MAP_TYPE_RINGBUF);", flags, 1)
    obj = BPFObject.open(build(source))
    if not kernel_release.is_at_least("6.19"):
        with pytest.raises(OSError, match="records"):
            obj.load()
        return
    with obj, pytest.raises(ValueError, match="map 'records' has the flag BPF_F_RB_OVERWRITE"):
        RingBuffer(obj.maps["records"])


def test_a_record_is_delivered_once_whoever_reads_next(obj: BPFObject) -> None:
    for number in range(3):
        with RingBuffer(obj.maps["records"], thread=None) as ring:
            write(obj, 1)
            assert ring.read(timeout=10.0).number == number
            assert ring.stats.pending == 0


# Records that are none of the kind.


def test_an_array_ends_before_a_bad_record_and_the_next_goes_on_behind_it(obj: BPFObject) -> None:
    with RingBuffer(obj.maps["records"]) as ring:
        write(obj, 500, bad_at=100)
        numbers: list[int] = []
        while len(numbers) < 100:
            numbers += ring.read_batch(timeout=10.0)["number"].tolist()
        with pytest.raises(ValueError, match="a record of 3 bytes does not fit a type of 4 bytes"):
            ring.read_batch(timeout=10.0)
        while len(numbers) < 499:
            numbers += ring.read_batch(timeout=10.0)["number"].tolist()
        assert numbers == [number for number in range(500) if number != 100]
        assert (ring.stats.delivered, ring.stats.pending) == (500, 0)


def test_an_iteration_goes_on_behind_a_bad_record(obj: BPFObject) -> None:
    with RingBuffer(obj.maps["records"]) as ring:
        write(obj, 5, bad_at=2)
        records = ring.events(count=4)
        assert [next(records).number for _ in range(2)] == [0, 1]
        with pytest.raises(ValueError, match="bytes"):
            next(records)
        assert [record.number for record in records] == [3, 4]


@pytest.mark.parametrize("bad_side", [0, 1], ids=["a short record", "an unknown side"])
def test_a_batch_ends_before_a_bad_record_and_the_next_goes_on_behind_it(obj: BPFObject, bad_side: int) -> None:
    with PacketReader(obj.maps["packets"], pairs=["nk0"], snaplen=8) as reader:
        write(obj, 300, bad_at=100, bad_side=bad_side)
        lengths: list[int] = []
        for end in (100, 299):
            while len(lengths) < end:
                lengths += np.asarray(reader.read_batch(timeout=10.0))["length"].tolist()
            if end == 100:
                with pytest.raises(ValueError, match="a record"):
                    reader.read_batch(timeout=10.0)
        assert lengths == [number for number in range(300) if number != 100]


@pytest.mark.parametrize("bad_side", [0, 1], ids=["a short record", "an unknown side"])
def test_a_capture_ends_before_a_bad_record_and_the_next_goes_on_behind_it(obj: BPFObject, bad_side: int) -> None:
    with PacketReader(obj.maps["packets"], pairs=["nk0"], snaplen=8) as reader:
        write(obj, 300, bad_at=100, bad_side=bad_side)
        target = io.BytesIO()
        with pytest.raises(ValueError, match="a record of"):
            reader.capture(target, timeout=10.0)
        assert target.getvalue().count(b"\2\0\4\0\2\0\0\0") == 100  # epb_flags: outbound
        assert reader.capture(io.BytesIO(), count=199, timeout=10.0) == 199


def test_what_is_given_back_comes_before_what_others_left(obj: BPFObject) -> None:
    """A batch of several blocks, of which one in the middle has a bad record."""
    with RingBuffer(obj.maps["records"], queue_size=1 << 22) as ring:
        numbers: list[int] = []
        for start in range(0, 60_000, 2000):
            write(obj, 2000, bad_at=start + 1000)
            while ring._stream.limits()[0]:  # bytes in the ring
                time.sleep(0.001)
        while len(numbers) < 60_000 - 30:
            try:
                numbers += ring.read_batch(max_events=1500, timeout=10.0)["number"].tolist()
            except ValueError:
                continue
        assert numbers == sorted(numbers)
        assert ring.stats.pending == 0


# No memory.


def scarce() -> int:
    """Leave no room for a block."""
    size = int(Path("/proc/self/statm").read_text().split()[0]) * PAGE
    resource.setrlimit(resource.RLIMIT_AS, (size + (128 << 10), resource.RLIM_INFINITY))
    return size


def plenty() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


@pytest.mark.parametrize("options", MODES.values(), ids=MODES)
def test_no_memory_for_a_block_is_an_error_of_the_reader_and_no_end(options: Options) -> None:
    def run() -> str:
        with Native(**options) as native, Native(**options) as other:
            send_tcp(other, 1)
            assert other.stream.read(10.0) is not None
            scarce()
            send_tcp(native, 3)
            try:
                native.stream.read(10.0)
            except OSError as error:
                said = f"{error.errno} {error}"
            finally:
                plenty()
            stats = native.stream.stats()[1]
            for _ in range(3):
                with suppress(OSError):  # told of a try before that
                    assert native.stream.read(10.0) is not None
            while native.stream.read(0.2) is not None:
                pass
            send_tcp(other, 1)
            assert other.stream.read(10.0) is not None
            return f"{said} {stats} {native.stream.stats()[1]}"

    said = in_child(run)
    assert said.startswith(f"{errno.ENOMEM} "), said
    assert "allocate memory for events" in said
    assert said.endswith("(3, 0, 0, 3) (3, 3, 0, 0)")
