# SPDX-License-Identifier: MIT
"""The peer: bcc's own ring buffer reader, event() and two attributes; bcc_consumer.py MAP_ID poll|drain|latency.

bcc finds the record's type by compiling the program itself, which needs the kernel's headers; here the type is given,
so that its reader works on the very same records. Everything behind that is bcc's.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time

from bcc import BPF
from bcc.libbcc import lib
from bcc.table import RingBuf


class Event(ctypes.Structure):
    """struct nk_event."""

    _fields_ = [
        ("timestamp", ctypes.c_uint64),
        ("src", ctypes.c_uint8 * 16),
        ("dst", ctypes.c_uint8 * 16),
        ("length", ctypes.c_uint32),
        ("payload_len", ctypes.c_uint32),
        ("ip_word", ctypes.c_uint32),
        ("tcp_seq", ctypes.c_uint32),
        ("tcp_ack", ctypes.c_uint32),
        ("src_port", ctypes.c_uint16),
        ("dst_port", ctypes.c_uint16),
        ("rest", ctypes.c_uint8 * 24),
    ]


def main() -> None:
    """Read until SIGTERM, or what is there for each line on stdin, and say how many and at which cost."""
    number, mode = int(sys.argv[1]), sys.argv[2]
    bpf = BPF.__new__(BPF)
    bpf._ringbuf_manager = None
    ring = RingBuf.__new__(RingBuf)
    ring.bpf, ring.map_fd, ring._cbs, ring._event_class = bpf, lib.bpf_map_get_fd_by_id(number), {}, Event
    records = 0
    latencies = []

    def count(_context: object, data: object, _size: int) -> None:
        nonlocal records
        event = ring.event(data)
        event.src_port  # noqa: B018 - the access is what is measured
        event.payload_len  # noqa: B018
        records += 1

    def take_latency(_context: object, data: object, _size: int) -> None:
        nonlocal records
        latencies.append(time.monotonic_ns() - ring.event(data).timestamp)
        records += 1

    ring.open_ring_buffer(take_latency if mode == "latency" else count)
    print("ready", file=sys.stderr, flush=True)
    if mode == "drain":
        for _ in sys.stdin:
            records = 0
            start = time.perf_counter_ns()
            bpf.ring_buffer_consume()
            print(records, time.perf_counter_ns() - start, file=sys.stderr, flush=True)
        os._exit(0)  # BPF's destructor knows nothing of an object that was made by hand
    stopped = False

    def stop(*_: object) -> None:
        nonlocal stopped
        stopped = True

    signal.signal(signal.SIGTERM, stop)
    start = time.process_time_ns()
    while not stopped:
        bpf.ring_buffer_poll(100)
    bpf.ring_buffer_consume()
    words = [records, time.process_time_ns() - start]
    if latencies:
        latencies.sort()
        words += [latencies[records // 2], latencies[records * 99 // 100]]
    print(*words, file=sys.stderr, flush=True)
    os._exit(0)


main()
