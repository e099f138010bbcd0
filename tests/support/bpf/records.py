"""A program that writes records of any given length, discarded or not, from three sources."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Generic, TypeVar

import programs
from netkit_bpf import _core

LONGEST = 3400  # a packet for BPF_PROG_TEST_RUN must fit a page
SOURCES = 3
SOURCE_OFFSET = 3
_ETHERNET = 14
_T = TypeVar("_T")

_SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

struct counts {
	__u64 seen;
	__u64 lost;
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 16);
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 3);
	__type(key, __u32);
	__type(value, struct counts);
} counts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u8[4096]);
} scratch SEC(".maps");

/* Behind the Ethernet header: length (2 bytes), discard (1), source (1); the record is what stands there. */
SEC("tc")
int emit(struct __sk_buff *skb)
{
	__u32 zero = 0, length, source;
	__u8 *copy = bpf_map_lookup_elem(&scratch, &zero);
	struct counts *count;
	__u8 head[4];
	void *record;

	if (!copy || bpf_skb_load_bytes(skb, 14, head, sizeof(head)))
		return 1;
	source = head[3];
	count = bpf_map_lookup_elem(&counts, &source);
	if (!count)
		return 1;
	if (head[2]) {
		record = bpf_ringbuf_reserve(&events, 64, 0);
		if (record)
			bpf_ringbuf_discard(record, 0);
		return 0;
	}
	length = (head[0] | head[1] << 8) & 0xfff;
	count->seen++;
	if (length && bpf_skb_load_bytes(skb, 14, copy, length))
		return 1;
	if (bpf_ringbuf_output(&events, copy, length, 0))
		count->lost++;
	return 0;
}
"""


class Emitter(Generic[_T]):
    """The loaded program and a stream of its records."""

    def __init__(self, stream: Callable[[_core.Object, list[int], int], _core.Stream[_T]]) -> None:
        self.program = _core.Object(programs.build(_SOURCE), "emitter")
        self.program.load()
        self.stream = stream(self.program, [self.program.map("events")], self.program.map("counts"))

    def __enter__(self) -> Emitter[_T]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stream.close()
        del self.stream, self.program

    def emit(self, length: int, filler: bytes, *, discard: bool = False, source: int = 0) -> bytes:
        """Make one record and return what must be in it."""
        body = bytes([length & 0xFF, length >> 8, discard, source]) + filler
        body = body.ljust(max(length, 40), b"\0")
        verdict, _, _ = self.program.test_run("emit", bytes(_ETHERNET) + body)
        assert verdict == 0
        return body[:length]
