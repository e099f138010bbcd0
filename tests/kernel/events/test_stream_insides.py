"""What goes on behind a stream: who is woken when, what is held up, and what memory is given back."""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from native import Native
from netkit_bpf import BPFObject, Map, PacketReader, _core
from netkit_bpf._core import EventBatch as CoreEventBatch
from netkit_bpf.internal.arguments import StreamOptions, Thread
from programs import HEADER, build
from streams import send_tcp

RECORD = PacketReader.RECORD_SIZE
QUEUE = 100 * RECORD


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


@pytest.mark.parametrize("thread", ["shared", "own"])
def test_taking_a_block_from_a_queue_that_is_exactly_full_wakes_the_thread(thread: Thread) -> None:
    """It would look by itself only when a check is due, some 150 ms later."""
    with Native(queue_size=QUEUE, thread=thread) as native:
        send_tcp(native, 200)
        wait_for(lambda: native.stream.limits()[1] == QUEUE)
        start = time.monotonic()
        for _ in range(40):
            assert len(CoreEventBatch.read(native.stream, 1000, 10.0, merge=False, with_data=False)) > 0
            send_tcp(native, 100)
            wait_for(lambda: native.stream.limits()[1] == QUEUE)
        assert time.monotonic() - start < 40 * 0.05


def mapped() -> int:
    """Bytes of memory that this process has mapped, whether it uses them or not."""
    fields = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmSize"].split()[0]) << 10


def test_memory_that_lies_idle_is_given_back() -> None:
    with Native(thread="own") as native:
        send_tcp(native)
        assert native.stream.read(10.0) is not None
        before = mapped()
        for _ in range(4):  # 15 MB; the ring has room for each
            send_tcp(native, 40_000)
            wait_for(lambda: native.stream.limits()[0] == 0)
        assert mapped() - before > 8 << 20
        taken = 0
        while batch := CoreEventBatch.read(native.stream, 1 << 20, 1.0, merge=False, with_data=False):
            taken += len(batch)
        assert taken == 160_000
        wait_for(lambda: mapped() - before < 2 << 20)


# Rings in order.

HOLDER = (
    HEADER
    + """
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } first SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } second SEC(".maps");
const volatile __u32 rounds = 1000;
volatile __u64 stamp;
volatile __u32 release;

static long wait(__u32 index, void *context) { return release != 0; }
static long wait_longer(__u32 index, void *context) { bpf_loop(1 << 20, wait, NULL, 0); return release != 0; }

SEC("netkit/peer") int write_first(struct __sk_buff *skb)
{
	__u64 time = stamp;

	bpf_ringbuf_output(&first, &time, sizeof(time), 0);
	return -1;
}

SEC("netkit/peer") int write_second(struct __sk_buff *skb)
{
	__u64 time = stamp;

	bpf_ringbuf_output(&second, &time, sizeof(time), 0);
	return -1;
}

/* A record that has its place, and is not committed. */
SEC("netkit/peer") int hold_first(struct __sk_buff *skb)
{
	__u64 *time = bpf_ringbuf_reserve(&first, sizeof(*time), 0);

	if (!time)
		return 0;
	bpf_loop(rounds, wait_longer, NULL, 0);
	*time = 3000;
	bpf_ringbuf_submit(time, 0);
	return -1;
}
"""
)


def test_a_record_that_is_not_committed_holds_up_none_that_is_older() -> None:
    """What comes behind it in its ring is as new at least as what was read of that ring."""
    with BPFObject.open(build(HOLDER)) as obj:
        maps: list[Map] = [obj.maps["first"], obj.maps["second"]]

        def emit(program: str, time_ns: int) -> None:
            obj.variables["stamp"].value = time_ns
            obj.programs[program].test_run(bytes(60))

        options = StreamOptions(rings="ordered", thread=None)
        cores = [each._open() for each in maps]
        stream: _core.Stream[bytes] = _core.Stream(
            (obj, cores), [each.fileno() for each in cores], bytes, **options._asdict()
        )
        try:
            emit("write_first", 2000)
            assert stream.read(10.0) == struct.pack("=Q", 2000)
            holding = threading.Thread(target=obj.programs["hold_first"].test_run, args=(bytes(60),))
            holding.start()
            wait_for(lambda: stream.limits()[0] > 0)
            emit("write_second", 1000)
            assert stream.read(0.0) == struct.pack("=Q", 1000)
            assert stream.read(0.0) is None
            assert holding.is_alive()
            obj.variables["release"].value = 1
            holding.join()
            assert stream.read(10.0) == struct.pack("=Q", 3000)
        finally:
            obj.variables["release"].value = 1
            stream.close()
